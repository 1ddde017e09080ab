"""A candidate version beside the active one: on a share of live calls (canary), or on copies of them (shadow).

Every struct is array-like: a field may only be added at the end, with a default.
"""

from enum import Enum

import msgspec

from appliance import limits
from appliance.config import RegistryConfig
from appliance.said import Said


class Mode(str, Enum):
    """Canary: the candidate answers a share of the calls. Shadow: it gets copies of them, and nobody its answers."""

    CANARY = "canary"
    SHADOW = "shadow"


class Outcome(str, Enum):
    """How a comparison stands."""

    RUNNING = "running"
    PROMOTED = "promoted"
    CONDEMNED = "condemned"
    # It is over, and nothing follows from it.
    ABANDONED = "abandoned"
    # The daemon or the active version changed under it.
    INTERRUPTED = "interrupted"


class Bounds(msgspec.Struct, frozen=True, array_like=True):
    """What a candidate must keep to; 1, 0 and 0: not judged.

    At most this share of its calls fails, at least this share of its labels is the active version's, and its median
    takes at most so many times as long.
    """

    failed_max: float = limits.comparison_failed_max
    agreement_min: float = limits.comparison_agreement_min
    latency_ratio_max: float = limits.comparison_latency_ratio_max


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """How a candidate is compared. ``percent`` of the calls that name no version, above 0 up to 100.

    It ends after ``calls`` of them or ``seconds``, whichever comes first; 0: not by that. ``by_rule``: the bounds then
    decide, and before that when they are clearly broken; else an operator does.
    """

    mode: Mode = Mode.CANARY
    percent: float = 5.0
    calls: int = 0
    seconds: float = 0.0
    by_rule: bool = False
    bounds: Bounds = Bounds()
    # After a promotion, as with AskActivate.
    probation_seconds: float = 0.0


class Beside(msgspec.Struct, frozen=True, array_like=True):
    """Part of the active version's route: what front-ends do with its calls. ``number`` names the comparison."""

    number: int
    version: str
    mode: Mode
    percent: float


class Side(msgspec.Struct, array_like=True):
    """What one of the two versions did.

    ``latency`` and ``first`` are of pairs: the same calls on both sides, without their wait in the queue, in the buckets
    of worker/latency.py; ``first``: until the first piece of a text.
    """

    calls: int = 0
    failed: int = 0
    latency: dict[int, int] = {}
    first: dict[int, int] = {}
    tokens: int = 0
    text_ns: int = 0


class Tally(msgspec.Struct, array_like=True):
    """What a front-end counted of comparison ``number`` since it last told; the supervisor adds that up.

    ``offered`` calls named no version, ``taken`` of them were the comparison's. ``retried``: the candidate failed and
    the active version answered. ``skipped`` can't be copied (sequences, shared memory, too large), ``dropped`` were not,
    as there was no room or the engine was busy.
    """

    number: int = 0
    offered: int = 0
    taken: int = 0
    retried: int = 0
    skipped: int = 0
    dropped: int = 0
    # The same call answered by both. ``unlike``: other outputs or shapes. ``classified`` had labels or whole numbers.
    pairs: int = 0
    unlike: int = 0
    classified: int = 0
    agreed: int = 0
    # Pairs with floating point outputs; the largest difference of any, and the sum of each pair's largest relative one.
    numeric: int = 0
    distance_max: float = 0.0
    relative_max: float = 0.0
    relative_sum: float = 0.0
    texts: int = 0
    same_texts: int = 0
    active: Side = msgspec.field(default_factory=Side)
    candidate: Side = msgspec.field(default_factory=Side)


class Comparison(Said, tag="comparison"):
    """One comparison, running or ended; of a model the last one is kept. Times since the Unix epoch, 0: not yet."""

    name: str
    version: str = ""
    active: str = ""
    plan: Plan = Plan()
    began_ms: int = 0
    ended_ms: int = 0
    outcome: Outcome = Outcome.RUNNING
    # Why it ended so; while it runs, what the bounds say so far, "" nothing.
    reason: str = ""
    tally: Tally = msgspec.field(default_factory=Tally)
    # Whoever began it goes on from its end: after a restart it is not begun again from here.
    waited: bool = False


class AskBeginComparison(Said, tag="ask_begin_comparison"):
    """Load the version beside the active one and compare. Answer: Comparison; before it any number of Progress."""

    name: str
    version: str
    plan: Plan = Plan()


class AskEndComparison(Said, tag="ask_end_comparison"):
    """End it: the candidate is activated, or unloaded. Answer: Comparison; before it any number of Progress."""

    name: str
    promote: bool = False


class AskComparison(Said, tag="ask_comparison"):
    """How does the model's comparison stand, or how did the last one end? Answer: Comparison."""

    name: str


def plans_of(config: RegistryConfig) -> tuple[Plan, ...]:
    """How an update is compared before it takes over, one after the other."""
    bounds = Bounds(config.compare_failed_max, config.compare_agreement_min, config.compare_latency_max)
    shares = ((Mode.SHADOW, config.shadow_percent), (Mode.CANARY, config.canary_percent))
    return tuple(
        Plan(mode, percent, config.compare_calls, config.compare_seconds, True, bounds)
        for mode, percent in shares
        if percent
    )


_GREATEST = ("distance_max", "relative_max")
_SIDES = ("active", "candidate")


def add(total: Tally, more: Tally) -> None:
    """Adds ``more`` to ``total``."""
    for field in Tally.__struct_fields__:
        if field in _SIDES:
            _add_side(getattr(total, field), getattr(more, field))
        elif field in _GREATEST:
            setattr(total, field, max(getattr(total, field), getattr(more, field)))
        elif field != "number":
            setattr(total, field, getattr(total, field) + getattr(more, field))


def _add_side(total: Side, more: Side) -> None:
    for counts, others in ((total.latency, more.latency), (total.first, more.first)):
        for bucket, count in others.items():
            counts[bucket] = counts.get(bucket, 0) + count
    for field in ("calls", "failed", "tokens", "text_ns"):
        setattr(total, field, getattr(total, field) + getattr(more, field))
