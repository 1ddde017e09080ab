"""Golden tests: what must come out for what goes in, run on a loaded engine before it takes its first request."""

import re
from collections.abc import Sequence
from pathlib import Path

from appliance import limits
from appliance.answers import AnyAnswer, GenerateDone, InferDone, TextPiece
from appliance.calls import AnyCall, ChatMessage, GenerateCall, InferCall, OutputWanted, Sampling
from appliance.clock import Clock, SystemClock
from appliance.engine.base import Engine, Placed
from appliance.engine.golden_data import first_difference, input_tensor, output_array, read_golden
from appliance.errors import ApplianceError, FailedPrecondition, InvalidArgument
from appliance.model_spec import GoldenGeneration, GoldenTest, ModelSpec
from appliance.tensor_heads import TensorHead, split_body
from appliance.types import Buffer, Tensor, TensorSpec

_SHOWN_CHARS_MAX = 200


def run_golden(engine: Engine, spec: ModelSpec, folder: Path, clock: Clock | None = None) -> list[str]:
    """Runs every golden test of ``spec`` on an idle engine; the names of those that passed, which is all of them.

    Raises FailedPrecondition GOLDEN_FAILED at the first answer that is not as expected, InvalidArgument GOLDEN_INVALID
    for a test that cannot be run as it is written.
    """
    if len(spec.golden) > limits.golden_tests_max:
        raise InvalidArgument(
            f"{len(spec.golden)} golden tests, at most {limits.golden_tests_max} are allowed", reason="GOLDEN_INVALID"
        )
    passed: list[str] = []
    for test in spec.golden:
        driver = _Driver(engine, test.name, clock or SystemClock())
        if test.generate is not None:
            _check_text(test.name, test.generate, driver.generate(test.generate))
        else:
            _run_tensors(engine, test, spec, folder, driver)
        passed.append(test.name)
    return passed


class CollectingReply:
    """A Reply that keeps what comes."""

    def __init__(self, arrived_ns: int) -> None:
        self.arrived_ns = arrived_ns
        self.cancelled = False
        self.backlogged = False
        self.answers: list[AnyAnswer] = []
        self.buffers: list[Buffer] = []
        self.done = False
        self.error: ApplianceError | None = None

    def send(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        self.answers.append(answer)
        self.buffers.extend(buffers)

    def place(self, heads: tuple[TensorHead, ...], buffers: Sequence[Buffer]) -> Placed:
        return heads, buffers

    def finish(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        self.send(answer, buffers)
        self.done = True

    def fail(self, error: ApplianceError) -> None:
        self.error = error
        self.done = True


class _Driver:
    """Does what the engine process's loop does, for one call at a time."""

    def __init__(self, engine: Engine, test: str, clock: Clock) -> None:
        self._engine = engine
        self._test = test
        self._clock = clock

    def call(self, call: AnyCall, tensors: list[Tensor]) -> CollectingReply:
        """Runs one call to its end, at most ``golden_test_ms_max``."""
        started = self._clock.monotonic_ns()
        reply = CollectingReply(started)
        try:
            self._engine.submit(call, tensors, reply)
        except ApplianceError as error:
            raise _failed(self._test, f"the engine refused it: {error.message}") from None
        while not reply.done:
            if not self._engine.has_work():
                raise _failed(self._test, "the engine stopped without an answer")
            self._engine.step()
            spent_ms = (self._clock.monotonic_ns() - started) // 1_000_000
            if not reply.done and spent_ms > limits.golden_test_ms_max:
                reply.cancelled = True
                self._engine.step()  # so that the engine lets go of it
                raise _failed(self._test, f"no answer within {limits.golden_test_ms_max} ms")
        if reply.error is not None:
            raise _failed(self._test, f"the engine failed: {reply.error.message}")
        return reply

    def infer(self, tensors: list[Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        """The wanted outputs by name."""
        wanted = tuple(OutputWanted(name) for name in outputs)
        reply = self.call(InferCall(tensors=(), outputs=wanted), tensors)
        done = reply.answers[-1]
        if not isinstance(done, InferDone):
            raise _failed(self._test, "the model answered with something other than tensors")
        body = memoryview(b"".join(reply.buffers))
        return {tensor.name: tensor for tensor in split_body(done.tensors, body)}

    def generate(self, generation: GoldenGeneration) -> str:
        """The whole text of a greedy generation."""
        call = GenerateCall(
            prompt=None if generation.user else generation.prompt,
            messages=(ChatMessage("user", generation.user),) if generation.user else None,
            sampling=Sampling(temperature=0.0, seed=0),
            max_tokens=generation.max_tokens,
        )
        reply = self.call(call, [])
        if not isinstance(reply.answers[-1], GenerateDone):
            raise _failed(self._test, "the model answered with something other than text")
        return "".join(answer.text for answer in reply.answers if isinstance(answer, TextPiece))


def _run_tensors(engine: Engine, test: GoldenTest, spec: ModelSpec, folder: Path, driver: _Driver) -> None:
    if not test.outputs:
        raise InvalidArgument(
            f"golden test {test.name!r} expects nothing: give outputs or generate", reason="GOLDEN_INVALID"
        )
    told = engine.signature()
    takes = {t.name: t for t in told.inputs}
    gives = {t.name: t for t in told.outputs}
    tensors = []
    for name, golden in test.inputs.items():
        where = f"golden test {test.name!r}, input {name!r}"
        array = read_golden(golden, _known(takes, name, where), spec, folder, where)
        tensors.append(input_tensor(name, takes[name].datatype, array))
    expected = {}
    for name, golden in test.outputs.items():
        where = f"golden test {test.name!r}, output {name!r}"
        expected[name] = read_golden(golden, _known(gives, name, where), spec, folder, where)
    answer = driver.infer(tensors, list(test.outputs))
    for name, aim in expected.items():
        got = output_array(answer[name])
        if got.shape != aim.shape:
            raise _failed(test.name, f"output {name!r} has the shape {list(got.shape)}, expected {list(aim.shape)}")
        index = first_difference(got, aim, test.tolerance)
        if index is not None:
            raise _failed(
                test.name,
                f"output {name!r} at {list(index)}: got {_shown(got[index])}, expected {_shown(aim[index])}"
                f" (tolerance {test.tolerance.absolute:g} + {test.tolerance.relative:g} x |expected|)",
            )


def _known(specs: dict[str, TensorSpec], name: str, where: str) -> TensorSpec:
    if name not in specs:
        raise InvalidArgument(f"{where}: the model has {', '.join(map(repr, specs))}", reason="GOLDEN_INVALID")
    return specs[name]


def _check_text(test: str, generation: GoldenGeneration, text: str) -> None:
    if generation.contains and generation.contains not in text:
        raise _failed(test, f"the text doesn't contain {_shown(generation.contains)}: got {_shown(text)}")
    if generation.matches:
        try:
            found = re.search(generation.matches, text)
        except re.error as error:
            raise InvalidArgument(
                f"golden test {test!r}: {generation.matches!r} is no regular expression: {error}",
                reason="GOLDEN_INVALID",
            ) from None
        if not found:
            raise _failed(test, f"the text doesn't match {_shown(generation.matches)}: got {_shown(text)}")


def _shown(value: object) -> str:
    item = getattr(value, "item", None)
    text = repr(item() if item else value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "..."


def _failed(test: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(f"golden test {test!r} failed: {what}", reason="GOLDEN_FAILED")
