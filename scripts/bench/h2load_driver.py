"""Load from nghttp2's h2load: closed loop of unary calls at some ten thousand calls a second from one core.

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
from pathlib import Path

import numpy as np

from bench.schedule import Phases
from bench.stats import Sample
from bench.target import INFER, BenchError, Target

GRPC_PREFIX_BYTES = 5
CALLS_MIN = 200
STOP_MARGIN_S = 60.0
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


def _command(target: Target, body: Path, in_flight: int, connections: int) -> list[str]:
    clients, streams = connections_for(in_flight, connections)
    command = ["h2load", "-c", str(clients), "-m", str(streams), "-t", "1", "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "user-agent: bench-oip"]
    if target.address.startswith("unix:"):
        return [*command, "-B", target.address, f"http://localhost{INFER}"]
    return [*command, f"http://{target.address}{INFER}"]


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
    target: Target, request: bytes, answer_bytes: int, in_flight: int, connections: int, phases: Phases
) -> Sample:
    """Warm up, then make as many calls as fill the duration at the warm-up's rate; all are counted and checked.

    A number of calls and not a time: then no call is cut off at the end, and the bytes must come out even.
    """
    with tempfile.TemporaryDirectory(prefix="bench-oip-") as folder:
        body, log = Path(folder, "request"), Path(folder, "log")
        body.write_bytes(b"\0" + struct.pack(">I", len(request)) + request)
        command = _command(target, body, in_flight, connections)
        warmup_s = max(phases.warmup_s, 1.0)
        warm = _RATE.search(_run([*command, "-D", f"{warmup_s * 1000:.0f}ms"], warmup_s))
        if warm is None:
            raise BenchError("h2load's report could not be read; use --driver python")
        calls = max(CALLS_MIN, in_flight, round(float(warm[1]) * phases.duration_s))
        output = _run([*command, "-n", str(calls), f"--log-file={log}"], phases.duration_s * 4)
        good, total = good_calls(output, answer_bytes)
        latencies, seconds = read_log(log)
    errors = Counter({"NOT_OK": total - good}) if good < total else Counter()
    # The log can't tell which calls failed, and a refusal is quick: latencies of such a mix would mean nothing.
    kept = latencies if good == total else np.empty(0)
    return Sample(seconds, good, kept, errors, len(request), answer_bytes, "h2load")
