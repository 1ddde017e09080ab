"""What operators are told of the update loop. Pure."""

import time
from collections.abc import Sequence

from appliance.questions import Desired, ModelVersion
from appliance.registry.loop.choose import Choice
from appliance.registry.trust.verified import Verified
from appliance.sync_questions import SyncLine

# Alarms come so long before metadata expire; a timestamp is good for a day.
_ALARM_S = 6 * 3600


def line(choice: Choice, *, refused: str, by_hand: bool, opens_s: int = 0) -> SyncLine:
    """A choice as a line of `appliance sync status`.

    ``refused``: why it is not taken here, "" when it is; ``by_hand``: it is stored, and an operator activates it;
    ``opens_s``: when the next maintenance window opens, 0: one is open.
    """
    release = choice.release
    if release is None:
        return SyncLine(choice.line, "", "waiting", choice.reason)
    if choice.installed:
        return SyncLine(choice.line, release.version, "installed", choice.reason)
    if refused:
        return SyncLine(choice.line, release.version, "refused", refused)
    if by_hand:
        return SyncLine(choice.line, release.version, "waiting", "registry.activate is false: activate it by hand")
    if opens_s:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(opens_s))
        return SyncLine(
            choice.line, release.version, "waiting", f"the next maintenance window opens at {when}", release.bytes
        )
    return SyncLine(choice.line, release.version, "installing", choice.reason, release.bytes)


def alarms(
    verified: Verified, stored: Sequence[ModelVersion], desired: Sequence[Desired], now_s: int
) -> tuple[str, ...]:
    """What somebody has to look at, as sentences."""
    found = [f"{problem.line or 'the publisher'}: {problem.message}" for problem in verified.problems]
    if verified.fresh_until_s - now_s < _ALARM_S:
        found.append("the publisher's metadata expire soon, or have expired: then nothing new is installed")
    lines = {release.line for release in verified.releases}
    digests = {(model.name, model.version): model.digest for model in stored}
    for each in desired:
        digest = digests.get((each.name, each.active), "")
        if digest and each.name in lines and not verified.allows(each.name, each.active, digest):
            found.append(f"{each.name} {each.active}, which runs, is not among the releases")
    return tuple(found)
