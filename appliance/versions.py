"""Versions of models as the supervisor and the sync process speak of them: what is stored, and which of it should run.

Every struct is array-like: a field may only be added at the end, with a default.
"""

import msgspec

from appliance.model_spec import ModelSpec


class ModelVersion(msgspec.Struct, frozen=True, array_like=True):
    """A stored version. ``digest`` is its manifest's; ``folder`` holds its files by their names."""

    name: str
    version: str
    digest: str
    size_bytes: int
    folder: str
    spec: ModelSpec
    added_ms: int = 0
    # By an update, not by an operator.
    brought: bool = False


class Measured(msgspec.Struct, frozen=True, array_like=True):
    """What was seen of a version: calls that were answered or failed by its own fault, and how long they took.

    ``latency``: (bucket, calls), in the buckets of worker/latency.py.
    """

    calls: int = 0
    faults: int = 0
    latency: tuple[tuple[int, int], ...] = ()


class OnProbation(msgspec.Struct, frozen=True, array_like=True):
    """The active version is compared with the previous one until ``until_ms`` (since the Unix epoch), for ``seconds``.

    ``before`` is what the previous one had done at the switch; ``keep_previous``: it stays loaded afterwards too.
    """

    until_ms: int
    seconds: float
    before: Measured = Measured()
    keep_previous: bool = False


class BadVersion(msgspec.Struct, frozen=True, array_like=True):
    """A version that is not to be activated again, unless an operator insists, and why; since when (Unix epoch)."""

    version: str
    digest: str
    reason: str
    since_ms: int = 0


class Desired(msgspec.Struct, frozen=True, array_like=True):
    """What should run of one model: the default version, and others loaded beside it. Survives restarts.

    ``previous`` was active before: it comes back when the active one's engine keeps dying.
    """

    name: str
    active: str = ""
    beside: tuple[str, ...] = ()
    previous: str = ""
    # While the active version has yet to show that it is no worse than the previous one.
    probation: OnProbation | None = None
    quarantined: tuple[BadVersion, ...] = ()
