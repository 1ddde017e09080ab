"""What a run of calls comes to: rates, percentiles, medians over rounds, ratios of two servers."""

import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt

PERCENTILES: dict[str, float] = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "p99_9_ms": 99.9, "max_ms": 100}
# Above 1 is better for the first server in these; in all other figures (latencies) below 1 is.
HIGHER_IS_BETTER = frozenset(
    {"calls_per_s", "mb_per_s_in", "mb_per_s_out", "mb_per_cpu_s", "tokens_per_s", "stream_tokens_per_s"}
)


@dataclass(frozen=True)
class Sample:
    """One measured run: ``calls`` that succeeded, their latencies in microseconds, and the codes of those that failed.

    ``latencies_us`` is empty when the driver can't tell a failed call's latency from a good one's. ``late_us``: how much
    later than planned the generator sent each call (open loop only; empty otherwise).
    """

    seconds: float
    calls: int
    latencies_us: npt.NDArray[np.float64]
    errors: Counter[str]
    bytes_out: int
    bytes_in: int
    driver: str
    late_us: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Summary:
    """A run, or the medians of several: ``figures`` by name, failed calls by code."""

    calls: int
    driver: str
    figures: dict[str, float]
    errors: dict[str, int]

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return asdict(self)


def percentile(values: npt.NDArray[np.float64], rank: float) -> float:
    """Nearest-rank percentile: a value that was really measured, never one between two; nan of nothing."""
    if len(values) == 0:
        return float("nan")
    return float(np.percentile(values, rank, method="inverted_cdf"))


def summarise(sample: Sample) -> Summary:
    """Figures of one run. MB are 10^6 bytes of gRPC messages, as the client sends (out) and receives (in) them."""
    rate = sample.calls / sample.seconds if sample.seconds > 0 else 0.0
    figures = {"calls_per_s": rate}
    figures |= {name: percentile(sample.latencies_us, rank) / 1e3 for name, rank in PERCENTILES.items()}
    figures["mb_per_s_out"] = rate * sample.bytes_out / 1e6
    figures["mb_per_s_in"] = rate * sample.bytes_in / 1e6
    if len(sample.late_us):
        figures["late_p99_ms"] = percentile(sample.late_us, 99) / 1e3
    return Summary(sample.calls, sample.driver, figures, dict(sample.errors))


def median_of(rounds: list[Summary]) -> Summary:
    """Median of each figure over the rounds; calls and errors are totals. ValueError without any round."""
    if not rounds:
        raise ValueError("no rounds to take a median of")
    figures = {name: statistics.median(one.figures[name] for one in rounds) for name in rounds[0].figures}
    errors: Counter[str] = Counter()
    for one in rounds:
        errors.update(one.errors)
    return Summary(sum(one.calls for one in rounds), rounds[0].driver, figures, dict(errors))


def ratios(first: Summary, second: Summary) -> dict[str, float]:
    """First divided by second, for each figure that both have; nan where the second is zero."""
    common = [name for name in first.figures if name in second.figures]
    return {
        name: first.figures[name] / second.figures[name] if second.figures[name] else float("nan") for name in common
    }
