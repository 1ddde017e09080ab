"""What the daemon's processes tell each other apart from calls: over a socket pair from the supervisor to each child.

The supervisor owns which models run; the sync process owns the store; a front-end only forwards what an operator asks.
Every struct is array-like: a field may only be added at the end, with a default.
"""

import msgspec

from appliance.comparison import Beside, Plan, Tally
from appliance.config import Config, LogConfig
from appliance.model_spec import ModelSpec
from appliance.questions import Answer, ModelVersion, Question, RegionEntry
from appliance.types import EngineStats, ModelSignature, ModelState


class Control(msgspec.Struct, array_like=True):
    """Base of all control messages."""


# --- child to supervisor ---------------------------------------------------------------------------------------------


class Beat(Control, tag="beat"):
    """The work loop turned. Engines add what they have done; front-ends what they refused, by (model, version)."""

    stats: EngineStats | None = None
    refused: dict[str, int] = {}
    lost: dict[str, int] = {}
    # What front-ends saw of candidates beside active versions since the last beat.
    compared: tuple[Tally, ...] = ()


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


class Reloaded(Control, tag="reloaded"):
    """The front-end has read certificates anew; ``message``: why the old ones, and all else, stay in use."""

    message: str = ""


class RegionsApplied(Control, tag="regions_applied"):
    """The front-end knows the regions of table ``epoch``, and takes no new call for any other."""

    epoch: int = 0


class Applied(Control, tag="applied"):
    """The front-end routes by table ``epoch``; ``busy``: sockets of engines outside of it on which it still has calls."""

    epoch: int = 0
    busy: tuple[str, ...] = ()


class Updated(Control, tag="updated"):
    """The sync process has stored an update: it is to run. How that ended is told by AskUpdateEnded."""

    model: ModelVersion
    activate: bool = True
    # How long it is then compared with the version before it.
    probation_seconds: float = 0.0
    # How it is compared with the active version before it takes over: one after the other, none: not at all.
    plans: tuple[Plan, ...] = ()


class Unneeded(Control, tag="unneeded"):
    """The sync process needs the room that a version takes. How that ended is told by AskUpdateEnded."""

    name: str
    version: str


class Withdrawn(Control, tag="withdrawn"):
    """Stored versions, as (model, version), that are not released any more: there is no way back to them."""

    versions: tuple[tuple[str, str], ...] = ()


# --- supervisor to child ---------------------------------------------------------------------------------------------


class StartEngine(Control, tag="start_engine"):
    """The first message to an engine process: load this, serve the listening unix socket ``listener_fd``."""

    spec: ModelSpec
    folder: str
    listener_fd: int
    threads: int = 0
    queue_max: int = 0
    run_golden: bool = False
    log: LogConfig = LogConfig()
    cache_dir: str = ""
    digest: str = ""
    # Which processors it may use, () all; by which rules it gets them (osutil/scheduling.py); and where engines tell each
    # other that latency work waits (worker/board.py), -1: nowhere.
    cores: tuple[int, ...] = ()
    service_class: str = ""
    realtime: bool = False
    board_fd: int = -1
    slot: int = -1
    # Execution providers in order of preference, where the model names none.
    providers: tuple[str, ...] = ()
    # The control group that it moves to, a folder; "": it stays where the supervisor is.
    control_group: str = ""
    # Where connections come from that another instance cannot serve (worker/handover.py), -1: nowhere.
    handover_fd: int = -1


class StartFrontEnd(Control, tag="start_front_end"):
    """The first message to a front-end. Number 0 also serves the unix socket. ``core`` -1: not pinned."""

    config: Config
    number: int = 0
    core: int = -1
    realtime: bool = False
    board_fd: int = -1


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
    # The sockets of further instances of the same version that take calls.
    more_sockets: tuple[str, ...] = ()
    # Of the active version: the candidate that a share of its calls goes to.
    beside: Beside | None = None


class RouteTable(Control, tag="routes"):
    """All models, whole: a new table replaces the old one at once. ``ready``: every required model is."""

    epoch: int = 0
    routes: tuple[Route, ...] = ()
    ready: bool = True


class RegionTable(Control, tag="regions"):
    """All shared memory that clients have registered, whole: a new table replaces the old one at once."""

    epoch: int = 0
    regions: tuple[RegionEntry, ...] = ()


class Drain(Control, tag="drain"):
    """Finish what runs, take nothing new, end. Front-ends: what still runs after ``seconds`` is cancelled."""

    seconds: float = 0.0


class Reload(Control, tag="reload"):
    """Read certificates anew; by ``config`` from now on, in what a front-end can change while it serves."""

    config: Config = Config()


# --- both ways -------------------------------------------------------------------------------------------------------


class Ask(Control, tag="ask"):
    """A question, numbered by whoever asks."""

    number: int
    question: Question


class Told(Control, tag="told"):
    """An answer to question ``number``; only Progress may be followed by more."""

    number: int
    answer: Answer


FromChild = (
    Beat
    | EngineReady
    | EngineRefused
    | FrontEndReady
    | FrontEndRefused
    | Applied
    | RegionsApplied
    | Reloaded
    | Updated
    | Unneeded
    | Withdrawn
    | Ask
    | Told
)
ToChild = StartEngine | StartFrontEnd | StartSync | RouteTable | RegionTable | Drain | Reload | Ask | Told
