"""Load from nghttp2's h2load: unary calls in a closed loop or paced, and streams that are filled without waiting; some ten
thousand calls a second from a fraction of a core.

h2load knows HTTP, not gRPC: it counts every 200 as a success, whatever grpc-status says. A failed call has no message
in its answer (or another one), so the bytes that came back tell how many calls really succeeded: each must be as long
as the answer of the real call that was made first.
"""

import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.schedule import Phases
from bench.stats import Sample
from bench.target import INFER, STREAM_INFER, BenchError, Target

GRPC_PREFIX_BYTES = 5
CALLS_MIN = 200
STRETCH_MAX = 3
STOP_MARGIN_S = 60.0
# Of each stream in the warm-up; what it takes tells how many fill the measured time.
WARMUP_MESSAGES = 500
STREAM_MESSAGES_MAX = 200_000
_DATA = re.compile(r"\((\d+)\) data")
_RATE = re.compile(r"finished in .*?, ([\d.]+) req/s")
_FAILED = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")


def is_installed() -> bool:
    """Whether h2load is on the PATH (Debian: nghttp2-client)."""
    return shutil.which("h2load") is not None


def connections_for(in_flight: int, wanted: int) -> tuple[int, int]:
    """Connections and streams on each, whose product is ``in_flight``: the most connections up to ``wanted``."""
    connections = next(n for n in range(min(wanted, in_flight), 0, -1) if in_flight % n == 0)
    return connections, in_flight // connections


def good_calls(output: str, answer_bytes: int) -> tuple[int, int]:
    """(calls answered with the expected message, all calls) from h2load's report; BenchError if it can't be read.

    ``answer_bytes`` is the length of one gRPC message, without its prefix of 5 bytes.
    """
    data, counts = _DATA.search(output), _FAILED.search(output)
    if data is None or counts is None:
        raise BenchError("h2load's report could not be read; use --driver python")
    total = sum(int(number) for number in counts.groups())
    expected = GRPC_PREFIX_BYTES + answer_bytes
    good, rest = divmod(int(data[1]), expected)
    if rest or good > total:
        raise BenchError(
            f"answers differ in length (not {expected} bytes each), so h2load can't tell right from wrong; "
            "use --driver python"
        )
    return good, total


def _command(target: Target, body: Path, in_flight: int, connections: int, method: str = INFER) -> list[str]:
    clients, streams = connections_for(in_flight, connections)
    command = ["h2load", "-c", str(clients), "-m", str(streams), "-t", "1", "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "user-agent: bench-oip"]
    if target.address.startswith("unix:"):
        return [*command, "-B", target.address, f"http://localhost{method}"]
    return [*command, f"http://{target.address}{method}"]


def framed(message: bytes) -> bytes:
    """A gRPC message as it goes into the body of a request."""
    return b"\0" + struct.pack(">I", len(message)) + message


def _run(command: list[str], seconds: float) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + STOP_MARGIN_S, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(
            f"h2load did not end within {seconds + STOP_MARGIN_S:.0f} s: the server has stopped answering"
        ) from None
    if ended.returncode != 0:
        raise BenchError(f"h2load failed ({ended.returncode}): {ended.stderr.strip()[-300:]}")
    return ended.stdout


def read_log(path: Path) -> tuple[np.ndarray, float]:
    """Latencies in microseconds and the seconds from the first call's start to the last one's end."""
    rows = np.loadtxt(path, dtype=np.int64, ndmin=2)
    if rows.size == 0:
        raise BenchError("h2load logged no call")
    starts, durations = rows[:, 0], rows[:, 2]
    span_us = int((starts + durations).max() - starts.min())
    return durations.astype(np.float64), span_us / 1e6


def closed_loop(
    target: Target,
    request: bytes,
    answer_bytes: int,
    in_flight: int,
    connections: int,
    phases: Phases,
    warm: Callable[[], None] = lambda: None,
) -> Sample:
    """Warm up, then make as many calls as fill the duration at the warm-up's rate; all are counted and checked.

    A number of calls and not a time: then no call is cut off at the end, and the bytes must come out even. ``warm`` is
    called between the two.
    """
    with tempfile.TemporaryDirectory(prefix="bench-oip-") as folder:
        body = Path(folder, "request")
        body.write_bytes(framed(request))
        command = _command(target, body, in_flight, connections)
        warmup_s = max(phases.warmup_s, 1.0)
        told = _RATE.search(_run([*command, "-D", f"{warmup_s * 1000:.0f}ms"], warmup_s))
        if told is None:
            raise BenchError("h2load's report could not be read; use --driver python")
        calls = calls_for(float(told[1]), phases.duration_s, in_flight)
        warm()
        return _counted(command, calls, len(request), answer_bytes, phases.duration_s * 4, Path(folder))


def calls_for(rate: float, seconds: float, in_flight: int) -> int:
    """Enough to fill the time, and not too few for percentiles unless a slow server would take many times as long."""
    return max(in_flight, round(rate * seconds), min(CALLS_MIN, round(rate * seconds * STRETCH_MAX)))


def paced(target: Target, request: bytes, answer_bytes: int, rate: float, phases: Phases) -> Sample:
    """One connection, calls at even steps, so that the server is idle most of the time; all are counted and checked.

    Latency counts from the moment a call is really sent: h2load wakes up with the kernel's timers.
    """
    with tempfile.TemporaryDirectory(prefix="bench-oip-") as folder:
        body = Path(folder, "request")
        body.write_bytes(framed(request))
        command = [*_command(target, body, 1, 1), f"--rps={rate:g}"]
        if phases.warmup_s:
            _run([*command, "-n", str(max(1, round(rate * phases.warmup_s)))], phases.warmup_s)
        calls = max(1, round(rate * phases.duration_s))
        return _counted(command, calls, len(request), answer_bytes, phases.duration_s, Path(folder))


def _counted(
    command: list[str], calls: int, request_bytes: int, answer_bytes: int, seconds: float, folder: Path
) -> Sample:
    """Make that many calls, and see that so many answers came."""
    log = folder / "log"
    output = _run([*command, "-n", str(calls), f"--log-file={log}"], seconds)
    good, total = good_calls(output, answer_bytes)
    latencies, taken = read_log(log)
    errors = Counter({"NOT_OK": total - good}) if good < total else Counter()
    # The log can't tell which calls failed, and a refusal is quick: latencies of such a mix would mean nothing.
    kept = latencies if good == total else np.empty(0)
    return Sample(taken, good, kept, errors, request_bytes, answer_bytes, "h2load")


def streams(
    target: Target, request: bytes, answer_bytes: int, streams: int, connections: int, phases: Phases
) -> Sample:
    """ModelStreamInfer: each of the streams is one HTTP/2 request whose body is many messages, sent as flow control allows.

    So many requests are in flight on each stream, and nobody waits for an answer before the next request goes out.
    ``answer_bytes``: of one ModelStreamInferResponse. Latencies of single messages are not known.
    """
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as folder:
        body, log = Path(folder, "request"), Path(folder, "log")
        command = [*_command(target, body, streams, connections, STREAM_INFER), "-n", str(streams)]
        body.write_bytes(framed(request) * WARMUP_MESSAGES)
        warm_log = Path(folder, "warm")
        _run([*command, f"--log-file={warm_log}"], STOP_MARGIN_S)
        wanted = round(WARMUP_MESSAGES * phases.duration_s / max(read_log(warm_log)[1], 1e-3))
        messages = min(max(wanted, CALLS_MIN), STREAM_MESSAGES_MAX)
        body.write_bytes(framed(request) * messages)
        output = _run([*command, f"--log-file={log}"], phases.duration_s * 4)
        good, total = answered_messages(output, answer_bytes), streams * messages
        errors = Counter({"NOT_OK": total - good}) if good < total else Counter()
        return Sample(read_log(log)[1], good, np.empty(0), errors, len(request), answer_bytes, "h2load")


def answered_messages(output: str, answer_bytes: int) -> int:
    """How many messages of that length came back, from h2load's report; BenchError when they don't come out even."""
    data = _DATA.search(output)
    if data is None:
        raise BenchError("h2load's report could not be read")
    good, rest = divmod(int(data[1]), GRPC_PREFIX_BYTES + answer_bytes)
    if rest:
        raise BenchError(f"a stream's answers are not {answer_bytes} bytes each, so right can't be told from wrong")
    return good
