"""Load from Python's own gRPC client: closed loop, open loop, and streams; about 4,500 calls/s on one core at best.

Completion times are taken in grpcio's callback thread, so that the sending thread being busy is not counted as latency.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np

from appliance.pb.inference import grpc_service_pb2 as pb
from bench.schedule import Phases, due_times
from bench.target import INFER, STREAM_INFER, Target, open_channel, status_of

SPIN_NS = 100_000  # time.sleep wakes up to this late (timer slack is 50 us): the rest is spun away


class Recorder:
    """Collects what falls into the measured window; one lock, since callbacks come from several threads."""

    def __init__(self, opens_ns: int, closes_ns: int) -> None:
        self._window = (opens_ns, closes_ns)
        self._lock = threading.Lock()
        self.latencies_ns: list[int] = []
        self.late_ns: list[int] = []
        self.errors: Counter[str] = Counter()

    def covers(self, moment_ns: int) -> bool:
        """Whether that moment lies in the measured window."""
        return self._window[0] <= moment_ns < self._window[1]

    def success(self, latency_ns: int, late_ns: int | None = None) -> None:
        """Count a call that answered OK."""
        with self._lock:
            self.latencies_ns.append(latency_ns)
            if late_ns is not None:
                self.late_ns.append(late_ns)

    def failure(self, code: str) -> None:
        """Count a call that did not."""
        with self._lock:
            self.errors[code] += 1


def _code(call: "grpc.Future[bytes]") -> str:
    if call.cancelled():
        return "CANCELLED"
    error = call.exception()
    if error is None:
        return "OK"
    return status_of(error)[0]


def closed_loop(target: Target, request: bytes, in_flight: int, phases: Phases, timeout_s: float) -> Recorder:
    """Keep ``in_flight`` calls going: each answer sends the next. Calls that end in the window count."""
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    with open_channel(target.address) as channel:
        infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFER)
        start = time.perf_counter_ns()
        closes = phases.window_ns(start)[1]
        recorder = Recorder(*phases.window_ns(start))

        def send() -> None:
            sent = time.perf_counter_ns()

            def done(call: "grpc.Future[bytes]") -> None:
                now, code = time.perf_counter_ns(), _code(call)
                if recorder.covers(now):
                    recorder.success(now - sent) if code == "OK" else recorder.failure(code)
                ended.put(None)

            infer.future(request, timeout=timeout_s).add_done_callback(done)

        for _ in range(in_flight):
            send()
        running = in_flight
        while running:
            ended.get()
            if time.perf_counter_ns() < closes:
                send()
            else:
                running -= 1
    return recorder


def _wait_until(due_ns: int) -> None:
    while (left := due_ns - time.perf_counter_ns()) > SPIN_NS:
        time.sleep((left - SPIN_NS) / 1e9)
    while time.perf_counter_ns() < due_ns:
        time.sleep(0)  # lets go of the GIL: the callback thread must not wait for this one


def open_loop(target: Target, request: bytes, rate: float, phases: Phases, timeout_s: float) -> Recorder:
    """Send at fixed moments whatever the server does; latency counts from the moment a call was due.

    In flight are at most rate * timeout_s calls: each ends by its deadline, counted as DEADLINE_EXCEEDED.
    """
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    sent_calls = 0
    with open_channel(target.address) as channel:
        infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFER)
        start = time.perf_counter_ns()
        recorder = Recorder(*phases.window_ns(start))

        def send(due: int) -> None:
            late = time.perf_counter_ns() - due

            def done(call: "grpc.Future[bytes]") -> None:
                now, code = time.perf_counter_ns(), _code(call)
                if recorder.covers(due):
                    recorder.success(now - due, late) if code == "OK" else recorder.failure(code)
                ended.put(None)

            infer.future(request, timeout=timeout_s).add_done_callback(done)

        for due in due_times(start, rate, phases.window_ns(start)[1]):
            _wait_until(due)
            send(due)
            sent_calls += 1
        for _ in range(sent_calls):
            ended.get()
    return recorder


def _is_last(message: bytes) -> tuple[bool, str]:
    """Whether this was a request's last response, and its error ("" if none)."""
    response = pb.ModelStreamInferResponse.FromString(message)
    if response.error_message:
        return True, "STREAM_ERROR"
    final = response.infer_response.parameters.get("triton_final_response")
    return final is None or final.bool_param, ""


def _one_stream(channel: grpc.Channel, request: bytes, closes_ns: int, recorder: Recorder, timeout_s: float) -> None:
    """Requests over one stream, the next one after the last response of the one before."""
    go: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def requests() -> Iterator[bytes]:
        while go.get():
            yield request

    allowed_s = timeout_s + max(0.0, (closes_ns - time.perf_counter_ns()) / 1e9)
    infer: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM_INFER)
    responses = infer(requests(), timeout=allowed_s)
    sent = time.perf_counter_ns()
    go.put(True)
    try:
        for message in responses:
            now = time.perf_counter_ns()
            last, error = _is_last(message)
            if not last:
                continue
            if recorder.covers(now):
                recorder.failure(error) if error else recorder.success(now - sent)
            if now >= closes_ns:
                break
            sent = time.perf_counter_ns()
            go.put(True)
    except grpc.RpcError as error:
        recorder.failure(status_of(error)[0])
    finally:
        go.put(False)
        responses.cancel()


def streams(target: Target, request: bytes, in_flight: int, phases: Phases, timeout_s: float) -> Recorder:
    """Closed loop over ``in_flight`` ModelStreamInfer streams, one request at a time on each."""
    with open_channel(target.address) as channel:
        start = time.perf_counter_ns()
        opens, closes = phases.window_ns(start)
        recorder = Recorder(opens, closes)
        arguments = (channel, request, closes, recorder, timeout_s)
        threads = [threading.Thread(target=_one_stream, args=arguments) for _ in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return recorder


def microseconds(values_ns: list[int]) -> np.ndarray:
    """Nanoseconds as an array of microseconds."""
    return np.asarray(values_ns, dtype=np.float64) / 1e3
