"""A candidate beside the active version, through a real front-end: simulated engines answer for both."""

import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from express_rig import DIE, HOLD, ExpressRig, ObedientEngine, request, wait_for

from appliance import limits
from appliance.calls import GenerateCall, InferCall
from appliance.comparison import Beside, Mode, Tally, add
from appliance.control import Route
from appliance.pb.appliance.v1 import generation_pb2 as gen
from appliance.pb.appliance.v1 import generation_pb2_grpc as gen_grpc
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.types import ModelState

from engine_simulator import ECHO, TEXT, EngineSimulator  # isort: skip

PATIENCE = 20.0
READY = ModelState.READY


class ComparisonRig(ExpressRig):
    """Versions 1.0.0 (active) and 2.0.0 of the models echo and text, compared as ``compare`` says."""

    def __init__(self) -> None:
        super().__init__()
        self.candidate = ObedientEngine(str(self.folder / "candidate.sock"))
        self.other_text = EngineSimulator(str(self.folder / "other-text.sock"))
        self.number = 0
        self.seen = Tally()

    def compare(self, mode: Mode | None, percent: float = 100.0) -> None:
        self.number += 1
        self.seen = Tally(self.number)
        beside = Beside(self.number, "2.0.0", mode, percent) if mode else None
        self.apply(
            Route("echo", "1.0.0", READY, True, self.engine.path, ECHO, beside=beside),
            Route("echo", "2.0.0", READY, False, self.candidate.path, ECHO),
            Route("text", "1.0.0", READY, True, self.text.path, TEXT, beside=beside),
            Route("text", "2.0.0", READY, False, self.other_text.path, TEXT),
        )
        self.servers.comparing.apply(self.table)
        self.servers.comparing.trials.take_tallies()
        for engine in (self.engine, self.candidate, self.text, self.other_text):
            engine.calls.clear()

    def tally(self) -> Tally:
        for told in self.servers.comparing.trials.take_tallies():
            if told.number == self.number:
                add(self.seen, told)
        return self.seen

    def until(self, **counts: int) -> Tally:
        """Waits until the comparison has counted that."""
        wait_for(lambda: all(getattr(self.tally(), field) == count for field, count in counts.items()))
        return self.seen

    def apply(self, *routes: Route, ready: bool = True) -> None:
        super().apply(*routes, ready=ready)
        from appliance.control import RouteTable

        self.table = RouteTable(self.epoch, routes, ready)

    def __exit__(self, *problem: object) -> None:
        self.candidate.let_go.set()
        super().__exit__(*problem)
        self.candidate.close()
        self.other_text.close()


@pytest.fixture(scope="module")
def rig() -> Iterator[ComparisonRig]:
    with ComparisonRig() as rig:
        yield rig


@pytest.fixture
def stub(rig: ComparisonRig) -> pb_grpc.GRPCInferenceServiceStub:
    return pb_grpc.GRPCInferenceServiceStub(rig.channel)


def sequence(number: int, **more: Any) -> pb.ModelInferRequest:
    asked = request(0.0)
    asked.parameters["sequence_id"].int64_param = number
    return asked


def versions(stub: pb_grpc.GRPCInferenceServiceStub, *asked: pb.ModelInferRequest) -> list[str]:
    return [stub.ModelInfer(one, timeout=PATIENCE).model_version for one in asked]


def test_without_a_comparison_no_call_knows_of_any(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(None)
    assert rig.servers.comparing.trials.current is None
    assert set(versions(stub, *[request(0.0)] * 5)) == {"1.0.0"}
    assert not rig.candidate.calls


def test_small_calls_are_shared_exactly(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.CANARY, 25)
    found = versions(stub, *[request(0.0, n) for n in range(40)])
    assert found == (["1.0.0"] * 3 + ["2.0.0"]) * 10
    seen = rig.until(offered=40, taken=10)
    assert seen.retried == 0
    # Who names a version gets that one.
    asked = request(0.0)
    asked.model_version = "1.0.0"
    assert set(versions(stub, *[asked] * 8)) == {"1.0.0"}
    assert rig.tally().offered == 40


def test_streams_are_shared_request_by_request_and_in_order(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.CANARY, 50)
    answers = list(stub.ModelStreamInfer(iter([request(0.0, n) for n in range(20)]), timeout=PATIENCE))
    assert [a.infer_response.id for a in answers] == [str(n) for n in range(20)]
    assert not any(a.error_message for a in answers)
    found = [a.infer_response.model_version for a in answers]
    assert (found.count("1.0.0"), found.count("2.0.0")) == (10, 10)
    rig.until(offered=20, taken=10)


def test_a_candidate_that_dies_costs_no_call(rig: ComparisonRig, stub: Any) -> None:
    """Each connection that carries DIE is closed by whoever gets it; the active version has no such order."""
    rig.compare(Mode.CANARY, 100)
    rig.candidate.orders = {0.0: DIE}
    try:
        assert set(versions(stub, *[request(0.0, n) for n in range(6)])) == {"1.0.0"}
    finally:
        rig.candidate.orders = {}
    seen = rig.until(retried=6)
    assert seen.candidate.failed == 6
    assert seen.active.calls == 6


def test_a_shadow_gets_copies_and_callers_do_not_wait_for_it(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.SHADOW)
    rig.candidate.let_go.clear()
    rig.candidate.orders = {0.0: HOLD}
    versions(stub, request(0.0))
    wait_for(lambda: rig.candidate.held == 1)
    # One copy is on its way, so many wait, the others are dropped: the callers are all answered.
    assert set(versions(stub, *[request(0.0, n) for n in range(limits.copies_waiting_max + 20)])) == {"1.0.0"}
    assert rig.tally().dropped == 20
    rig.candidate.orders = {}
    rig.candidate.let_go.set()
    seen = rig.until(pairs=limits.copies_waiting_max + 1)
    assert (seen.numeric, seen.distance_max, seen.unlike) == (seen.pairs, HOLD, 0)
    copied = [call for call in rig.candidate.calls if isinstance(call, InferCall)]
    assert all(call.priority > limits.priority_default and call.deadline_ns for call in copied)


def test_when_it_ends_its_copies_do(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.SHADOW)
    rig.candidate.let_go.clear()
    rig.candidate.left.clear()
    rig.candidate.orders = {0.0: HOLD}
    versions(stub, *[request(0.0, n) for n in range(5)])
    wait_for(lambda: rig.candidate.held == 1)
    rig.compare(None)
    assert rig.candidate.left.wait(PATIENCE)  # an engine that is to be unloaded is not waited for
    rig.candidate.orders = {}
    rig.candidate.let_go.set()
    rig.compare(Mode.SHADOW)
    versions(stub, request(0.0))
    rig.until(pairs=1)
    assert len(rig.candidate.calls) == 1


def test_numbers_that_differ_are_measured(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.SHADOW)
    rig.candidate.orders = {0.0: 5.0}  # what it answers instead
    try:
        versions(stub, request(0.0, 1))
        seen = rig.until(pairs=1)
    finally:
        rig.candidate.orders = {}
    assert seen.distance_max == 5.0


def test_what_cannot_be_copied_is_counted(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.SHADOW)
    versions(stub, sequence(1), sequence(2))
    large = pb.ModelInferRequest(model_name="echo")
    rows = limits.copy_bytes_max // 12
    large.inputs.add(name="x", datatype="FP32", shape=[rows, 3])
    large.raw_input_contents.append(struct.pack(f"<{3 * rows}f", *[0.0] * 3 * rows))
    versions(stub, large)
    rig.until(skipped=3, offered=3, pairs=0)
    assert not rig.candidate.calls


def test_a_large_call_is_copied_whole(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.SHADOW)
    asked = pb.ModelInferRequest(model_name="echo")
    rows = 30_000  # through the arena, which is the next call's soon
    asked.inputs.add(name="x", datatype="FP32", shape=[rows, 3])
    asked.raw_input_contents.append(struct.pack(f"<{3 * rows}f", *range(3 * rows)))
    versions(stub, asked, request(0.0), asked)
    seen = rig.until(pairs=3)
    assert (seen.unlike, seen.distance_max) == (0, 0.0)


def test_an_unknown_or_broken_candidate_leaves_everything_to_the_active_version(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.CANARY)
    rig.apply(
        Route("echo", "1.0.0", READY, True, rig.engine.path, ECHO),
        Route("text", "1.0.0", READY, True, rig.text.path, TEXT),
    )
    assert set(versions(stub, *[request(0.0)] * 4)) == {"1.0.0"}
    seen = rig.until(retried=4)
    assert seen.candidate.failed == 0


def test_a_caller_that_is_wrong_hears_it(rig: ComparisonRig, stub: Any) -> None:
    rig.compare(Mode.CANARY)
    asked = request(0.0)
    asked.inputs[0].name = "nothing"
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(asked, timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rig.tally().candidate.failed == 0


# --- language models ---------------------------------------------------------------------------------------------------


def test_texts_are_shared_and_copied(rig: ComparisonRig) -> None:
    stub = gen_grpc.GenerationStub(rig.channel)

    def text(prompt: str) -> list[gen.GenerateResponse]:
        return list(stub.Generate(gen.GenerateRequest(model="text", prompt=prompt), timeout=PATIENCE))

    rig.compare(Mode.CANARY, 50)
    assert [text("a b c")[-1].version for _ in range(4)] == ["1.0.0", "2.0.0"] * 2
    seen = rig.until(texts=2)
    assert (seen.same_texts, seen.active.tokens, seen.candidate.tokens) == (2, 6, 6)
    rig.compare(Mode.SHADOW)
    assert text("one two")[-1].version == "1.0.0"
    seen = rig.until(texts=1)
    assert (seen.active.tokens, seen.candidate.tokens) == (2, 2)
    assert [type(call) for call in rig.other_text.calls] == [GenerateCall]


def test_a_text_that_the_candidate_does_not_begin_is_the_active_versions(rig: ComparisonRig) -> None:
    stub = gen_grpc.GenerationStub(rig.channel)
    rig.compare(Mode.CANARY)
    rig.other_text.close()
    answered = list(stub.Generate(gen.GenerateRequest(model="text", prompt="a b"), timeout=PATIENCE))
    assert answered[-1].version == "1.0.0"
    assert rig.until(retried=1).candidate.failed == 0


def test_embeddings_are_compared(rig: ComparisonRig) -> None:
    stub = gen_grpc.GenerationStub(rig.channel)
    rig.compare(Mode.SHADOW)
    rig.other_text = EngineSimulator(str(rig.folder / "third-text.sock"))
    rig.compare(Mode.SHADOW)
    answer = stub.Embed(gen.EmbedRequest(model="text", texts=["a", "b"]), timeout=PATIENCE)
    assert answer.version == "1.0.0"
    seen = rig.until(pairs=1)
    assert (seen.numeric, seen.distance_max) == (1, 0.0)
