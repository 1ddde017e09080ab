"""What is asked about updates and the registry, and the answers. Array-like: a field may only be added at the end."""

import msgspec

from appliance.said import Said


class AskUpdateEnded(Said, tag="ask_update_ended"):
    """Supervisor to sync: the update runs now, or what was unneeded is gone; with a ``code``: not, and why. Answer: Nothing."""

    name: str
    version: str
    code: str = ""
    reason: str = ""
    message: str = ""


class AskSync(Said, tag="ask_sync"):
    """What comes from the registry? Answer: SyncStatus, after what ``wish`` asks for has begun.

    "": nothing more; "now": poll without waiting; "look": the same, but whatever is found, nothing is done;
    "pause" and "resume": fetch and install nothing, until resumed, also across restarts.
    """

    wish: str = ""
    # From now on, and until the next start, at most so much a second is fetched; 0: as much as there is, -1: as it is.
    limit_kib_s: int = -1


class SyncLine(msgspec.Struct, frozen=True, array_like=True):
    """A model line of the registry. ``version`` is what should run here, "" where nothing of it applies.

    ``state``: "installed", "installing", "waiting" (``reason`` says for what), "failed", "refused". ``fetch_bytes`` are missing.
    """

    line: str
    version: str = ""
    state: str = ""
    reason: str = ""
    fetch_bytes: int = 0


class SyncStatus(Said, tag="sync_status"):
    """Times in milliseconds since the Unix epoch, 0: never. ``doing``: a sentence, "" while it waits for the next poll."""

    registry: str = ""
    paused: bool = False
    doing: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    polled_ms: int = 0
    next_ms: int = 0
    # Why the last poll brought nothing, "" when it did.
    reason: str = ""
    error: str = ""
    lines: tuple[SyncLine, ...] = ()
    # What somebody has to look at: metadata that expire, a version that was withdrawn, a clock that is behind.
    alarms: tuple[str, ...] = ()
    # Until when new releases may be installed without news from the publisher.
    fresh_until_ms: int = 0
    # The stick that is being imported, "" none; and what became of the last one, since this process began.
    visiting: str = ""
    visit: "Visit | None" = None
    # How much is fetched a second at most, 0: as much as there is.
    limit_kib_s: int = 0


class Visit(msgspec.Struct, frozen=True, array_like=True):
    """A stick that was imported. ``error``: why it brought nothing, "" when it could be read.

    ``returned``: the file with this machine's status that it carries back, "" none, and then ``not_returned`` says why.
    """

    path: str
    ended_ms: int
    error: str = ""
    lines: tuple[SyncLine, ...] = ()
    returned: str = ""
    not_returned: str = ""


class AskVisit(Said, tag="ask_visit"):
    """A stick is there: bring what it has, once, through the same trust and plan. Answer: SyncStatus, once it has begun.

    ``path``: of the OCI layout on it, as the sync process sees it.
    """

    path: str


class AskPlan(Said, tag="ask_plan"):
    """What would the next poll do, if it found what the last one has found? Answer: SyncPlanned."""


class PlannedInstall(msgspec.Struct, frozen=True, array_like=True):
    """``fetch_bytes`` would come from the registry, at most; ``disk_bytes`` more would be in use."""

    line: str
    version: str
    why: str
    fetch_bytes: int = 0
    disk_bytes: int = 0
    activate: bool = True


class PlannedRemoval(msgspec.Struct, frozen=True, array_like=True):
    """A version that would go, and for what."""

    line: str
    version: str
    room_for: str


class SyncPlanned(Said, tag="sync_planned"):
    """A plan, in the order in which it would be carried out. ``source``: from where. ``polled_ms``: how old its facts are."""

    source: str = ""
    polled_ms: int = 0
    installs: tuple[PlannedInstall, ...] = ()
    removals: tuple[PlannedRemoval, ...] = ()
    # What would be left as it is: up to date, or waiting for something.
    lines: tuple[SyncLine, ...] = ()


class AskTrust(Said, tag="ask_trust"):
    """A root of trust, as the publisher gave it out of hand. Answer: TrustAnswer.

    Without ``install`` it is only looked at. ``force``: it may replace one of another publisher.
    """

    root: bytes
    install: bool = False
    force: bool = False


class TrustKeys(msgspec.Struct, frozen=True, array_like=True):
    """Who signs a role: ``threshold`` of the keys with these fingerprints."""

    role: str
    threshold: int
    fingerprints: tuple[str, ...]


class TrustAnswer(Said, tag="trust_answer"):
    """What the root says. ``outcome``: "" when it was only looked at, else trust/releases.py, Trust.install."""

    version: int = 0
    expires_ms: int = 0
    roles: tuple[TrustKeys, ...] = ()
    outcome: str = ""


class AskTrustClock(Said, tag="ask_trust_clock"):
    """Which time is expiry judged by? ``reset``: forget its floor first. Answer: TrustClockAnswer."""

    reset: bool = False


class TrustClockAnswer(Said, tag="trust_clock_answer"):
    """In milliseconds since the Unix epoch. ``judged_ms``: the later one of the floor (0: none) and the machine's clock.

    ``fresh_until_ms``: of the metadata that are known here, 0: none are. ``forgotten_ms``: the floor before a reset.
    """

    floor_ms: int = 0
    machine_ms: int = 0
    judged_ms: int = 0
    fresh_until_ms: int = 0
    forgotten_ms: int = 0
