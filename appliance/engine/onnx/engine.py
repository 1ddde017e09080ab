"""An ONNX model that is loaded: queue, run, answer."""

import logging
import time
from collections import deque

import msgspec
import numpy as np
import onnxruntime as ort

from appliance.answers import InferDone
from appliance.calls import AnyCall, InferCall
from appliance.clock import Clock, SystemClock
from appliance.engine.arrays import NUMPY_TYPES, Array
from appliance.engine.base import Engine, Reply
from appliance.engine.onnx.codec import InputCodec, OutputCodec
from appliance.engine.onnx.failures import run_error
from appliance.engine.onnx.planner import Waiting, next_plan
from appliance.engine.onnx.runner import make_runner
from appliance.errors import ApplianceError, DeadlineExceeded, ResourceExhausted, Unimplemented
from appliance.types import EngineStats, ModelSignature, Tensor

_log = logging.getLogger(__name__)


class OnnxEngine(Engine):
    """Serves one InferenceSession. ``zipmaps`` are the outputs that ZipMap makes, served as tensors."""

    def __init__(
        self,
        session: ort.InferenceSession,
        signature: ModelSignature,
        zipmaps: frozenset[str] = frozenset(),
        *,
        queue_max: int = 128,
        warmup_rows: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self._signature = signature
        self._run = make_runner(session, signature, zipmaps)
        self._inputs = InputCodec(signature.inputs)
        self._outputs = OutputCodec(signature, zipmaps)
        self._queue: deque[Waiting] = deque()
        self._queue_max = queue_max
        self._warmup_rows = warmup_rows
        self._now = (clock or SystemClock()).monotonic_ns
        self._first_input = signature.inputs[0].name if signature.batch_axis else ""
        self._stats = EngineStats()

    def signature(self) -> ModelSignature:
        return self._signature

    def warm_up(self) -> None:
        """Runs once on zeros and empty strings, which not every model likes: its failure proves nothing."""
        if self._warmup_rows <= 0:
            return
        try:
            self._run(self._outputs.plan(()).names, synthetic_feed(self._signature, self._warmup_rows))
        except Exception as error:  # whatever the runtime raises on made-up data
            _log.info("warm-up on zeros failed, the first request will be slower: %s", error)

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:
        if not isinstance(call, InferCall):
            raise Unimplemented("this model takes tensors (ModelInfer); it doesn't generate, embed or tokenize text")
        if len(self._queue) >= self._queue_max:
            raise ResourceExhausted(
                f"{self._queue_max} requests already wait for this model; try again later", reason="QUEUE_FULL"
            )
        feed = self._inputs.feed(tensors)
        first = self._first_input
        rows = feed[first].shape[0] if first else 1
        self._queue.append(Waiting(feed, self._outputs.plan(call.outputs), reply, call.deadline_ns, rows))

    def has_work(self) -> bool:
        return bool(self._queue)

    def step(self) -> None:
        plan = next_plan(self._queue, self._now())
        self._stats.cancel_count += len(plan.cancelled)
        for call in plan.expired:
            self._failed(call, DeadlineExceeded("the deadline passed while the request waited for the model"))
        for call in plan.run:
            self._execute(call)

    def _execute(self, call: Waiting) -> None:
        started = self._now()
        try:
            values = self._run(call.outputs.names, call.feed)
            ran = self._now()
            heads, buffers = call.outputs.encode(values)
        except ApplianceError as error:
            self._failed(call, error)
            return
        except Exception as error:  # the runtime's exceptions share no base class below Exception
            self._failed(call, run_error(error))
            return
        queue_ns, compute_ns = max(0, started - call.reply.arrived_ns), ran - started
        call.reply.finish(InferDone(heads, queue_ns, compute_ns), buffers)
        stats = self._stats
        stats.success_count += 1
        stats.success_ns += queue_ns + compute_ns
        stats.queue_ns += queue_ns
        stats.compute_ns += compute_ns
        stats.inference_count += call.rows
        stats.execution_count += 1
        stats.last_inference_ms = int(time.time() * 1000)

    def _failed(self, call: Waiting, error: ApplianceError) -> None:
        self._stats.fail_count += 1
        self._stats.fail_ns += max(0, self._now() - call.reply.arrived_ns)
        call.reply.fail(error)

    def stats(self) -> EngineStats:
        return msgspec.structs.replace(self._stats, waiting=len(self._queue))

    def close(self) -> None:
        """Lets go of the session, whose memory goes with it."""
        del self._run


def synthetic_feed(signature: ModelSignature, rows: int) -> dict[str, Array]:
    """Zeros and empty strings for every input that must be given, dynamic axes ``rows`` long."""
    feed: dict[str, Array] = {}
    for spec in signature.inputs:
        if spec.optional:
            continue
        shape = tuple(rows if axis == -1 else axis for axis in spec.shape)
        dtype = NUMPY_TYPES.get(spec.datatype)
        feed[spec.name] = np.full(shape, "", dtype=object) if dtype is None else np.zeros(shape, dtype)
    return feed
