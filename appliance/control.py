"""What the daemon's processes tell each other apart from calls: over a socket pair from the supervisor to each child.

The supervisor owns which models run; the sync process owns the store; a front-end only forwards what an operator asks.
Every struct is array-like: a field may only be added at the end, with a default.
"""

import msgspec

from appliance.config import Config, LogConfig
from appliance.model_spec import ModelSpec
from appliance.types import EngineStats, ModelSignature, ModelState


class Control(msgspec.Struct, array_like=True):
    """Base of all control messages."""


# --- child to supervisor ---------------------------------------------------------------------------------------------


class Beat(Control, tag="beat"):
    """The work loop turned. Engines add what they have done; front-ends what they refused, by (model, version)."""

    stats: EngineStats | None = None
    refused: dict[str, int] = {}
    lost: dict[str, int] = {}


class Loading(Control, tag="loading"):
    """A sentence about how far a load is."""

    text: str = ""


class EngineReady(Control, tag="engine_ready"):
    """The model is loaded, warm, and its golden tests passed where they were asked for."""

    signature: ModelSignature
    load_ms: int = 0
    golden_passed: int = 0


class EngineRefused(Control, tag="engine_refused"):
    """The model cannot be served: the load or a golden test failed. The process ends after this; don't restart it."""

    code: str
    reason: str
    message: str


class FrontEndReady(Control, tag="front_end_ready"):
    """The front-end listens."""

    address: str = ""


class FrontEndRefused(Control, tag="front_end_refused"):
    """The front-end cannot listen (port in use, bad certificate): the daemon stops with this message."""

    message: str = ""


class Applied(Control, tag="applied"):
    """The front-end routes by table ``epoch`` and has no call left on an engine that isn't in it."""

    epoch: int = 0


# --- supervisor to child ---------------------------------------------------------------------------------------------


class StartEngine(Control, tag="start_engine"):
    """The first message to an engine process: load this, serve the listening unix socket ``listener_fd``."""

    spec: ModelSpec
    folder: str
    listener_fd: int
    cache_dir: str = ""
    threads: int = 0
    queue_max: int = 0
    run_golden: bool = False
    log: LogConfig = LogConfig()


class StartFrontEnd(Control, tag="start_front_end"):
    """The first message to a front-end. Number 0 also serves the unix socket. ``core`` -1: not pinned."""

    config: Config
    number: int = 0
    core: int = -1


class StartSync(Control, tag="start_sync"):
    """The first message to the sync process."""

    config: Config


class Route(msgspec.Struct, frozen=True, array_like=True):
    """One version of a model as a front-end needs it. ``socket`` is empty while no engine takes calls."""

    name: str
    version: str
    state: ModelState
    active: bool
    socket: str = ""
    signature: ModelSignature | None = None
    reason: str = ""
    queue_max: int = 0


class RouteTable(Control, tag="routes"):
    """All models, whole: a new table replaces the old one at once. ``ready``: every required model is."""

    epoch: int = 0
    routes: tuple[Route, ...] = ()
    ready: bool = True


class Drain(Control, tag="drain"):
    """Finish what runs, take nothing new, end. Front-ends: what still runs after ``seconds`` is cancelled."""

    seconds: float = 0.0


class Reload(Control, tag="reload"):
    """Read certificates anew."""


# --- questions: front-end to supervisor, supervisor to sync process --------------------------------------------------


class ModelVersion(msgspec.Struct, frozen=True, array_like=True):
    """A stored version. ``digest`` is its manifest's; ``folder`` holds its files by their names."""

    name: str
    version: str
    digest: str
    size_bytes: int
    folder: str
    spec: ModelSpec
    added_ms: int = 0


class Desired(msgspec.Struct, frozen=True, array_like=True):
    """What should run of one model: the default version, and others loaded beside it. Survives restarts.

    ``previous`` was active before: it comes back when the active one's engine keeps dying.
    """

    name: str
    active: str = ""
    beside: tuple[str, ...] = ()
    previous: str = ""


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


class ProcessStatus(msgspec.Struct, array_like=True):
    """One process of the daemon."""

    role: str
    pid: int
    memory_bytes: int
    uptime_ms: int
    restarts: int = 0


class DaemonStatus(Control, tag="status_answer"):
    """Everything `appliance status` shows."""

    version: str = ""
    uptime_ms: int = 0
    ready: bool = False
    addresses: tuple[str, ...] = ()
    state_dir: str = ""
    processes: tuple[ProcessStatus, ...] = ()
    models: tuple[VersionStatus, ...] = ()


class AskStatus(Control, tag="ask_status"):
    """What runs? Answer: DaemonStatus."""


class AskInspect(Control, tag="ask_inspect"):
    """One stored version (the active or else the newest when ``version`` is empty). Answer: VersionAnswer."""

    name: str
    version: str = ""


class AskAdd(Control, tag="ask_add"):
    """Take the folder ``incoming``/``upload`` into the store. The supervisor then tests and activates it.

    Answer: VersionAnswer; before it any number of Progress.
    """

    upload: str
    activate: bool = True
    keep_previous: bool = False


class AskActivate(Control, tag="ask_activate"):
    """Make a version the default one, loading it first. ``beside``: only load it, don't make it the default."""

    name: str
    version: str = ""
    beside: bool = False
    keep_previous: bool = False


class AskDeactivate(Control, tag="ask_deactivate"):
    """Unload a version, or all of the model's when ``version`` is empty."""

    name: str
    version: str = ""


class AskRemove(Control, tag="ask_remove"):
    """Take a version that is not loaded out of the store."""

    name: str
    version: str


class AskCatalogue(Control, tag="ask_catalogue"):
    """Supervisor to sync: all that is stored. Answer: Catalogue."""


class AskDesire(Control, tag="ask_desire"):
    """Supervisor to sync: make this what should run of the model, durably. Answer: Nothing."""

    desired: Desired


class VersionAnswer(Control, tag="version_answer"):
    """A stored version and how it stands."""

    model: ModelVersion
    status: VersionStatus | None = None


class Catalogue(Control, tag="catalogue"):
    """All stored versions and all that should run."""

    models: tuple[ModelVersion, ...] = ()
    desired: tuple[Desired, ...] = ()


class Progress(Control, tag="progress"):
    """How far a question is; ``total`` 0 when unknown."""

    text: str = ""
    done: int = 0
    total: int = 0


class Nothing(Control, tag="nothing"):
    """Done, nothing to say."""


class Refusal(Control, tag="refusal"):
    """The question failed; as in errors.py."""

    code: str
    reason: str
    message: str


Question = AskStatus | AskInspect | AskAdd | AskActivate | AskDeactivate | AskRemove | AskCatalogue | AskDesire
Answer = DaemonStatus | VersionAnswer | Catalogue | Progress | Nothing | Refusal


class Ask(Control, tag="ask"):
    """A question, numbered by whoever asks."""

    number: int
    question: Question


class Told(Control, tag="told"):
    """An answer to question ``number``; only Progress may be followed by more."""

    number: int
    answer: Answer


FromChild = Beat | Loading | EngineReady | EngineRefused | FrontEndReady | FrontEndRefused | Applied | Ask | Told
ToChild = StartEngine | StartFrontEnd | StartSync | RouteTable | Drain | Reload | Ask | Told
