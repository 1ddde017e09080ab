"""What is asked about updates and the registry, and the answers. Array-like: a field may only be added at the end."""

import msgspec

from appliance.said import Said


class AskUpdateEnded(Said, tag="ask_update_ended"):
    """Supervisor to sync: the update runs now, or, with a ``code``, it was refused, and why. Answer: Nothing."""

    name: str
    version: str
    code: str = ""
    reason: str = ""
    message: str = ""


class AskSync(Said, tag="ask_sync"):
    """What comes from the registry? Answer: SyncStatus, after what ``wish`` asks for has begun.

    "": nothing more; "now": poll without waiting; "pause" and "resume": fetch and install nothing, until resumed, also
    across restarts.
    """

    wish: str = ""


class SyncLine(msgspec.Struct, frozen=True, array_like=True):
    """A model line of the registry. ``version`` is what should run here, "" where nothing of it applies.

    ``state``: "installed", "installing", "waiting" (``reason`` says for what), "refused". ``fetch_bytes`` are missing.
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
