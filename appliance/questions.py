"""What operators ask of the daemon, and what the supervisor asks of the sync process, with the answers.

A front-end only forwards an operator's question; the supervisor owns which models run; the sync process owns the store.
Every struct is array-like: a field may only be added at the end, with a default.
"""

import msgspec

from appliance.comparison import AskBeginComparison, AskComparison, AskEndComparison, Beside, Comparison
from appliance.said import Said
from appliance.store_questions import (
    AskCheckStore,
    AskCollectGarbage,
    AskRepairStore,
    GarbageReport,
    StoreReport,
)
from appliance.sync_questions import (
    AskPlan,
    AskSync,
    AskTrust,
    AskTrustClock,
    AskUpdateEnded,
    AskVisit,
    SyncPlanned,
    SyncStatus,
    TrustAnswer,
    TrustClockAnswer,
)
from appliance.types import EngineStats, ModelSignature, ModelState
from appliance.versions import Desired as Desired  # noqa: PLC0414 - part of the answers: to be had here as well
from appliance.versions import ModelVersion as ModelVersion  # noqa: PLC0414 - as above


class VersionStatus(msgspec.Struct, array_like=True):
    """One version as `appliance status` shows it."""

    name: str
    version: str
    engine: str
    state: ModelState
    active: bool
    digest: str = ""
    size_bytes: int = 0
    reason: str = ""
    pid: int = 0
    memory_bytes: int = 0
    uptime_ms: int = 0
    restarts: int = 0
    refused: int = 0
    lost: int = 0
    stats: EngineStats = msgspec.field(default_factory=EngineStats)
    signature: ModelSignature | None = None
    service_class: str = ""
    # Of all its engine processes, which ``memory_bytes`` and ``stats`` add up; ``pid`` is the first one.
    pids: tuple[int, ...] = ()
    # Until when it is on probation (Unix epoch), 0: it is not; and why it is not activated unless forced.
    probation_until_ms: int = 0
    quarantine_reason: str = ""
    # Of an active version: the candidate that it is compared with.
    beside: Beside | None = None


class ProcessStatus(msgspec.Struct, array_like=True):
    """One process of the daemon."""

    role: str
    pid: int
    memory_bytes: int
    uptime_ms: int
    restarts: int = 0


class DaemonStatus(Said, tag="status_answer"):
    """Everything `appliance status` shows."""

    version: str = ""
    uptime_ms: int = 0
    ready: bool = False
    addresses: tuple[str, ...] = ()
    state_dir: str = ""
    processes: tuple[ProcessStatus, ...] = ()
    models: tuple[VersionStatus, ...] = ()
    # The models named `required` that take no calls.
    missing: tuple[str, ...] = ()


class AskStatus(Said, tag="ask_status"):
    """What runs? Answer: DaemonStatus."""


class AskInspect(Said, tag="ask_inspect"):
    """One stored version (the active or else the newest when ``version`` is empty). Answer: VersionAnswer."""

    name: str
    version: str = ""


class AskAdd(Said, tag="ask_add"):
    """Take the folder ``incoming``/``upload`` into the store. The supervisor then tests and activates it.

    Answer: VersionAnswer; before it any number of Progress.
    """

    upload: str
    activate: bool = True
    keep_previous: bool = False
    # How long it is then compared with the version before it; 0: not at all.
    probation_seconds: float = 0.0


class AskActivate(Said, tag="ask_activate"):
    """Make a version the default one, loading it first. ``beside``: only load it, don't make it the default."""

    name: str
    version: str = ""
    beside: bool = False
    keep_previous: bool = False
    # As in AskAdd. ``force``: even if it is quarantined, which it then is no longer.
    probation_seconds: float = 0.0
    force: bool = False


class AskRollback(Said, tag="ask_rollback"):
    """Make the version that was active before the default again, and quarantine the one that is. Answer: VersionAnswer."""

    name: str


class AskDeactivate(Said, tag="ask_deactivate"):
    """Unload a version, or all of the model's when ``version`` is empty."""

    name: str
    version: str = ""


class AskRemove(Said, tag="ask_remove"):
    """Take a version that is not loaded out of the store."""

    name: str
    version: str


class AskCatalogue(Said, tag="ask_catalogue"):
    """Supervisor to sync: all that is stored. Answer: Catalogue."""


class AskDesire(Said, tag="ask_desire"):
    """Supervisor to sync: make this what should run of the model, durably. Answer: Nothing."""

    desired: Desired


class RegionEntry(msgspec.Struct, frozen=True, array_like=True):
    """A registered region of shared memory: ``nbytes`` at ``offset`` of the file that ``key`` stands for.

    ``device`` and ``inode`` say which file that was: a key may come to stand for another.
    """

    name: str
    key: str
    offset: int
    nbytes: int
    device: int
    inode: int


class AskRegister(Said, tag="ask_register"):
    """Let all front-ends know this region. Answer: Nothing, when they do."""

    region: RegionEntry


class AskUnregister(Said, tag="ask_unregister"):
    """Let all front-ends forget region ``name``, "": all regions. Answer: Nothing, when they have."""

    name: str = ""


class VersionAnswer(Said, tag="version_answer"):
    """A stored version and how it stands."""

    model: ModelVersion
    status: VersionStatus | None = None


class Catalogue(Said, tag="catalogue"):
    """All stored versions and all that should run."""

    models: tuple[ModelVersion, ...] = ()
    desired: tuple[Desired, ...] = ()


class Progress(Said, tag="progress"):
    """How far a question is; ``total`` 0 when unknown."""

    text: str = ""
    done: int = 0
    total: int = 0


class Nothing(Said, tag="nothing"):
    """Done, nothing to say."""


class Refusal(Said, tag="refusal"):
    """The question failed; as in errors.py."""

    code: str
    reason: str
    message: str


Question = (
    AskStatus
    | AskInspect
    | AskAdd
    | AskActivate
    | AskRollback
    | AskDeactivate
    | AskRemove
    | AskCatalogue
    | AskDesire
    | AskRegister
    | AskUnregister
    | AskCheckStore
    | AskRepairStore
    | AskCollectGarbage
    | AskUpdateEnded
    | AskSync
    | AskTrust
    | AskTrustClock
    | AskVisit
    | AskPlan
    | AskBeginComparison
    | AskEndComparison
    | AskComparison
)
Answer = (
    DaemonStatus
    | VersionAnswer
    | Catalogue
    | Progress
    | Nothing
    | Refusal
    | StoreReport
    | GarbageReport
    | SyncStatus
    | SyncPlanned
    | TrustAnswer
    | TrustClockAnswer
    | Comparison
)
