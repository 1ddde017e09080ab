"""What each stage of a small call costs in processor time, measured in this process with the daemon's own functions."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from appliance import frames
from appliance.answers import AnyAnswer, InferDone
from appliance.calls import AnyCall, InferCall
from appliance.engine.base import LoadOptions
from appliance.engine.onnx.load import load
from appliance.errors import ApplianceError
from appliance.serve import convert
from appliance.serve.validate import Plan
from appliance.store.model_folder import read
from appliance.tensor_heads import split_body
from appliance.types import Buffer
from bench.payload import NUMPY_TYPES

REPEATS = 25
CALLS_PER_REPEAT = 256
FRONT_END, ENGINE = "front-end", "engine"


class Kept:
    """A Reply that keeps its answer."""

    def __init__(self) -> None:
        self.arrived_ns = time.monotonic_ns()
        self.answer: AnyAnswer | None = None
        self.buffers: Sequence[Buffer] = ()
        self.cancelled = self.backlogged = False
        self.placement = None

    def send(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        self.finish(answer, buffers)  # no tensor model has more than one answer

    def finish(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        self.answer, self.buffers = answer, buffers

    def fail(self, error: ApplianceError) -> None:
        raise error


def microseconds(work: Callable[[], object], calls: int = CALLS_PER_REPEAT, per: int = 1) -> float:
    """Median over the repeats of the processor time of one call; ``work`` makes ``per`` of them."""
    took = []
    for _ in range(REPEATS):
        before = time.thread_time_ns()
        for _ in range(max(1, calls // per)):
            work()
        took.append((time.thread_time_ns() - before) / (max(1, calls // per) * per))
    return statistics.median(took) / 1e3


class Stages:
    """One model folder, loaded here; ``data`` is a request for it on the wire."""

    def __init__(self, folder: Path, data: bytes) -> None:
        spec = read(folder).spec
        self._engine = load(spec, folder, LoadOptions(threads=1))
        self._engine.warm_up()
        self._data = data
        self._plan = Plan(spec.name, self._engine.signature())
        self._name, self._version = spec.name, spec.version
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)

    def measure(self, batch: int) -> list[tuple[str, str, float]]:
        """(process, stage, microseconds a call) where so many calls are run together, in the order in which they happen."""
        request = convert.parse_request(self._data)
        call, buffers = self._call(request)
        header, body = _received(call, buffers)
        decoder: frames.Decoder[AnyCall] = frames.Decoder(AnyCall)
        answers: frames.Decoder[AnyAnswer] = frames.Decoder(AnyAnswer)
        submit_us, step_us, kept = self._engine_us(call, buffers, batch)
        run_us = self._run_us(call, buffers, batch)
        done = kept.answer
        assert isinstance(done, InferDone)
        answer_header, answer_body = _received(done, kept.buffers)

        def taken() -> object:
            decoded = decoder.decode(header)
            assert isinstance(decoded, InferCall)
            return split_body(decoded.tensors, body)

        def response() -> bytes:
            return convert.infer_response(self._name, self._version, "", done, answer_body)

        return [
            (FRONT_END, "parse the request (protobuf)", microseconds(lambda: convert.parse_request(self._data))),
            (FRONT_END, "check it against the signature, make the call", microseconds(lambda: self._call(request))),
            (FRONT_END, "encode the frame", microseconds(lambda: frames.encode(call, buffers))),
            (ENGINE, "decode the frame, split its body", microseconds(taken)),
            (ENGINE, "submit: arrays from bytes, into the queue", submit_us),
            (ENGINE, "put the batch together, share out the results", max(0.0, step_us - run_us)),
            (ENGINE, "run the model (ONNX Runtime)", run_us),
            (ENGINE, "encode the answer's frame", microseconds(lambda: frames.encode(done, kept.buffers))),
            (FRONT_END, "decode the answer's frame", microseconds(lambda: answers.decode(answer_header))),
            (FRONT_END, "make the response", microseconds(response)),
        ]

    def _call(self, received: Any) -> tuple[InferCall, list[Buffer]]:
        message, raw = convert.opened(received)
        return convert.infer_call(message, self._plan, convert.request_options(message), 0, raw)

    def _tensors(self, call: InferCall, buffers: list[Buffer]) -> Any:
        return split_body(call.tensors, memoryview(b"".join(buffers)))

    def _engine_us(self, call: InferCall, buffers: list[Buffer], batch: int) -> tuple[float, float, Kept]:
        tensors, engine = self._tensors(call, buffers), self._engine
        submits, steps = [], []
        kept = Kept()
        for _ in range(max(REPEATS, REPEATS * CALLS_PER_REPEAT // batch)):
            replies = [Kept() for _ in range(batch)]
            start = time.thread_time_ns()
            for reply in replies:
                engine.submit(call, tensors, reply)
            submitted = time.thread_time_ns()
            while engine.has_work():
                engine.step()
            steps.append(time.thread_time_ns() - submitted)
            submits.append(submitted - start)
            kept = replies[-1]
        per_call_us = 1e3 * batch
        return statistics.median(submits) / per_call_us, statistics.median(steps) / per_call_us, kept

    def _run_us(self, call: InferCall, buffers: list[Buffer], batch: int) -> float:
        arrays = {
            one.name: np.concatenate([np.frombuffer(one.data, NUMPY_TYPES[one.datatype]).reshape(one.shape)] * batch)
            for one in self._tensors(call, buffers)
        }
        return microseconds(lambda: self._session.run(None, arrays), per=batch)

    def close(self) -> None:
        """Let go of the model."""
        self._engine.close()


def _received(head: Any, buffers: Sequence[Buffer]) -> tuple[memoryview, memoryview]:
    """Header and body of a frame as the other side sees them."""
    whole = memoryview(b"".join(frames.encode(head, buffers)))
    header, _ = frames.parse_prefix(whole[: frames.PREFIX.size])
    start = frames.PREFIX.size
    return whole[start : start + header], whole[start + header :]
