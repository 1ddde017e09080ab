"""A tensor model that gives back what it gets."""

import time
from collections import deque

import msgspec
import numpy as np

from appliance.answers import InferDone
from appliance.calls import AnyCall, InferCall
from appliance.engine import arrays
from appliance.engine.arrays import NUMPY_TYPES
from appliance.engine.base import Engine, Reply
from appliance.engine.fake.behaviour import Behaviour
from appliance.engine.fake.script import Script
from appliance.errors import ApplianceError, DeadlineExceeded, InvalidArgument, ResourceExhausted, Unimplemented
from appliance.tensor_heads import heads
from appliance.types import BYTES, EngineStats, ModelKind, ModelSignature, Tensor, TensorSpec


class FakeTensorEngine(Engine):
    """One call a step. Classification is not done: the echo has no scores."""

    def __init__(self, script: Script, queue_max: int) -> None:
        self._script = script
        self._behaviour = Behaviour(script)
        self._queue_max = queue_max
        self._queue: deque[tuple[InferCall, list[Tensor], Reply]] = deque()
        self._outputs = {e.output or f"out_{e.name}": e for e in script.tensors}
        self._stats = EngineStats()

    def signature(self) -> ModelSignature:
        return ModelSignature(
            kind=ModelKind.TENSOR,
            platform="fake",
            inputs=tuple(TensorSpec(e.name, e.datatype, e.shape, e.optional) for e in self._script.tensors),
            outputs=tuple(TensorSpec(n, e.datatype, e.shape, labels=e.labels) for n, e in self._outputs.items()),
            batch_axis=self._script.batch_axis,
        )

    def warm_up(self) -> None:
        """Nothing to warm."""

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:
        if not isinstance(call, InferCall):
            raise Unimplemented("this model takes tensors")
        if len(self._queue) >= self._queue_max:
            raise ResourceExhausted(f"{self._queue_max} requests already wait", reason="QUEUE_FULL")
        known = {e.name: e for e in self._script.tensors}
        for tensor in tensors:
            echo = known.get(tensor.name)
            if echo is None or echo.datatype != tensor.datatype:
                raise InvalidArgument(f"there is no input {tensor.name!r} of {tensor.datatype}", reason="TENSOR_NAME")
            _check(tensor)
        self._queue.append((call, tensors, reply))

    def has_work(self) -> bool:
        return bool(self._queue)

    def step(self) -> None:
        call, tensors, reply = self._queue.popleft()
        if reply.cancelled:
            self._stats.cancel_count += 1
            return
        started = time.monotonic_ns()
        try:
            if 0 < call.deadline_ns <= started:
                raise DeadlineExceeded("the deadline passed while the request waited")
            self._behaviour.before(b"".join(bytes(t.data) for t in tensors))
            self._behaviour.delay()
            answer = self._echo(call, tensors)
        except ApplianceError as error:
            self._stats.fail_count += 1
            self._stats.fail_ns += max(0, time.monotonic_ns() - reply.arrived_ns)
            reply.fail(error)
            return
        self._finish(answer, reply, started)

    def _finish(self, answer: list[Tensor], reply: Reply, started: int) -> None:
        queue_ns, compute_ns = max(0, started - reply.arrived_ns), time.monotonic_ns() - started
        reply.finish(InferDone(heads(answer), queue_ns, compute_ns), [t.data for t in answer])
        self._behaviour.answered()
        stats = self._stats
        stats.success_count += 1
        stats.inference_count += 1
        stats.execution_count += 1
        stats.queue_ns += queue_ns
        stats.compute_ns += compute_ns
        stats.success_ns += queue_ns + compute_ns
        stats.last_inference_ms = time.time_ns() // 1_000_000

    def _echo(self, call: InferCall, tensors: list[Tensor]) -> list[Tensor]:
        given = {t.name: t for t in tensors}
        names = [o.name for o in call.outputs] or [n for n, e in self._outputs.items() if e.name in given]
        answer = []
        for name in names:
            echo = self._outputs.get(name)
            if echo is None or echo.name not in given:
                raise InvalidArgument(f"there is no output {name!r} for these inputs", reason="TENSOR_NAME")
            answer.append(self._copy(name, given[echo.name]))
        return answer

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        if not self._script.constant or tensor.datatype in (BYTES, "BOOL", "BF16"):
            return Tensor(name, tensor.datatype, tensor.shape, tensor.data)
        array = arrays.from_tensor(tensor, NUMPY_TYPES[tensor.datatype])
        return arrays.to_tensor(name, tensor.datatype, array + np.asarray(self._script.constant, array.dtype))

    def stats(self) -> EngineStats:
        return msgspec.structs.replace(self._stats, waiting=len(self._queue))

    def close(self) -> None:
        self._behaviour.close()


def _check(tensor: Tensor) -> None:
    if tensor.datatype == BYTES:
        arrays.decode_elements(tensor)
    else:
        arrays.from_tensor(tensor, NUMPY_TYPES[tensor.datatype])
