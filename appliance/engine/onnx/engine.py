"""An ONNX model that is loaded: queue, run, answer."""

import logging
import time
from collections.abc import Mapping
from typing import Protocol

import msgspec
import onnxruntime as ort

from appliance.calls import AnyCall, InferCall, ProfileCall
from appliance.clock import Clock
from appliance.engine.arrays import Array
from appliance.engine.base import Engine, Reply
from appliance.engine.onnx.batch_axes import batching
from appliance.engine.onnx.batch_trial import Trial
from appliance.engine.onnx.codec import InputCodec, OutputCodec
from appliance.engine.onnx.counters import Counters
from appliance.engine.onnx.executor import Executor, drop
from appliance.engine.onnx.made_up import synthetic_feed
from appliance.engine.onnx.planner import ONE_BY_ONE, Ticket, Waiting
from appliance.engine.onnx.profiling import Profiler
from appliance.engine.onnx.queue import Queue
from appliance.engine.onnx.runner import make_runner
from appliance.errors import DeadlineExceeded, ResourceExhausted, Unimplemented
from appliance.model_spec import OnnxOptions
from appliance.types import EngineStats, ModelSignature, Tensor

_log = logging.getLogger(__name__)


class Sequences(Protocol):
    """What the engine needs of a model's sequences (sequences.py). ``outputs`` carry state; False: the model has none.

    ``batchable``: whether calls of several sequences can run together.
    """

    outputs: tuple[str, ...]
    expired: int
    nbytes: int

    @property
    def batchable(self) -> bool: ...

    def __bool__(self) -> bool: ...

    def __len__(self) -> int: ...

    def ticket(self, call: InferCall, now_ns: int, feed: Mapping[str, Array]) -> Ticket | None:
        """The call's place in its sequence, None when it is in none; raises ApplianceError for bad parameters."""
        ...

    def sweep(self, now_ns: int) -> None:
        """Forgets sequences that have been idle for too long."""
        ...

    def fresh(self, rows: int) -> dict[str, Array]:
        """The states that a sequence of so many rows begins with."""
        ...


class OnnxEngine(Engine):
    """Serves one InferenceSession. ``zipmaps`` are the outputs that ZipMap makes, served as tensors.

    Raises InvalidArgument MODEL_BATCHING for batch options that don't fit the model.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        signature: ModelSignature,
        zipmaps: frozenset[str] = frozenset(),
        *,
        options: OnnxOptions | None = None,
        sequences: Sequences | None = None,
        queue_max: int = 128,
        warmup_rows: int = 1,
        clock: Clock | None = None,
        profiler: Profiler | None = None,
    ) -> None:
        options = options or OnnxOptions()
        self._signature = signature
        self._zipmaps = zipmaps
        self._run = make_runner(session, signature, zipmaps)
        self._batching = options.batching
        self._allowed = batching(signature, session.get_inputs(), zipmaps, options)
        self._axes = self._allowed.axes
        self._sequences = sequences
        self._states = sequences.outputs if sequences is not None else ()
        self._inputs = InputCodec(signature.inputs)
        self._outputs = OutputCodec(
            signature, zipmaps, self._axes.outputs if self._axes else None, frozenset(self._states)
        )
        self._queue = Queue()
        self._queue_max = queue_max
        self._warmup_rows = warmup_rows
        self._now = clock.monotonic_ns if clock is not None else time.monotonic_ns
        self._counters = Counters()
        self._executor = Executor(self._run, self._axes, self._states, self._counters, self._now)
        self._wait_until_ns = 0
        self._profiler = profiler
        self._profiling = False
        if self._axes is not None and options.batching == "on":
            self._batch()

    def signature(self) -> ModelSignature:
        return self._signature

    def warm_up(self) -> None:
        """Runs once on zeros and empty strings, which not every model likes: its failure proves nothing.

        With batching = "auto", a trial then decides on it.
        """
        if self._warmup_rows > 0:
            feed = synthetic_feed(self._signature, self._warmup_rows)
            if self._sequences:
                feed |= self._sequences.fresh(self._warmup_rows)
            try:
                self._run(self._outputs.plan(()).names, feed)
            except Exception as error:  # whatever the runtime raises on made-up data
                _log.info("warm-up on zeros failed, the first request will be slower: %s", error)
        if self._batching == "auto":
            self._try_batches()

    def _try_batches(self) -> None:
        why = self._allowed.why
        if self._axes is not None and self._warmup_rows <= 0:
            why = "without warm-up (onnx.warmup_rows) there is no trial"
        elif self._axes is not None and self._sequences and not self._sequences.batchable:
            why = "the states of its sequences have no axis for the rows"
        elif self._axes is not None:
            why = Trial(self._run, self._signature, self._zipmaps, self._axes, self._warmup_rows).why_not()
        if why:
            _log.info('calls are run one by one: %s; onnx.batching = "on" or "off" decides without a trial', why)
        else:
            self._batch()

    def _batch(self) -> None:
        rules = self._allowed.rules
        if rules.rows_max > 1:
            self._queue.rules = rules
            self._signature = msgspec.structs.replace(self._signature, batch_rows_max=rules.rows_max)

    # --- the queue ---------------------------------------------------------------------------------------------------

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:
        if not isinstance(call, InferCall):
            self._submit_other(call, reply)
            return
        queue = self._queue
        if len(queue) >= self._queue_max and not queue.drop_cancelled():
            raise ResourceExhausted(
                f"{self._queue_max} requests already wait for this model; try again later", reason="QUEUE_FULL"
            )
        feed = self._inputs.feed(tensors)
        rows, bucket = self._axes.measure(feed) if self._axes is not None else (1, None)
        ticket = None
        outputs = self._outputs.plan(call.outputs)
        sequences = self._sequences
        if sequences is not None and (sequences or call.parameters):
            ticket = sequences.ticket(call, self._now(), feed)
            if ticket is not None:
                outputs = self._outputs.plan(call.outputs, in_sequence=True)
                bucket = bucket if sequences.batchable else None
        nbytes = 0
        for tensor in tensors:
            nbytes += len(tensor.data)
        queue.add(Waiting(feed, outputs, reply, call.deadline_ns, rows, bucket, nbytes, call.priority, ticket))
        self._wait_until_ns = 0

    def _submit_other(self, call: AnyCall, reply: Reply) -> None:
        if not isinstance(call, ProfileCall) or self._profiler is None:
            raise Unimplemented("this model takes tensors (ModelInfer); it doesn't generate, embed or tokenize text")
        self._executor.run = self._profiler.begin(call, reply)
        self._profiling = True

    def has_work(self) -> bool:
        return bool(self._queue.calls) or self._profile_over()

    def _profile_over(self) -> bool:
        return self._profiling and self._profiler is not None and self._profiler.over()

    def wait_seconds(self) -> float:
        if not self._wait_until_ns:
            return 0.0
        return max(0, self._wait_until_ns - self._now()) / 1e9

    def step(self) -> None:
        if self._profiler is not None and self._profile_over():
            self._executor.run = self._run
            self._profiling = False
            self._profiler.end()
        now_ns = self._now()
        plan = self._queue.next(now_ns, self._executor.run_ns)
        self._wait_until_ns = plan.wait_until_ns
        if plan.cancelled:
            self._counters.cancelled(len(plan.cancelled))
            for call in plan.cancelled:
                drop(call)
        for call in plan.expired:
            self._executor.failed(call, DeadlineExceeded("the deadline passed while the request waited for the model"))
        if len(plan.run) == 1:
            self._executor.alone(plan.run[0], now_ns)
        elif plan.run and not self._executor.together(plan.run, now_ns):
            self._queue.put_back(plan.run)
            if self._executor.one_by_one:
                self._queue.rules = ONE_BY_ONE

    def stats(self) -> EngineStats:
        stats = self._counters.stats(len(self._queue))
        if self._sequences:
            self._sequences.sweep(self._now())  # nobody else does while no call comes
            stats.sequences, stats.sequences_expired = len(self._sequences), self._sequences.expired
            stats.sequence_bytes = self._sequences.nbytes
        return stats

    def close(self) -> None:
        """Lets go of the session, whose memory goes with it."""
        del self._run
        del self._executor
