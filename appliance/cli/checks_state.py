"""What `appliance doctor` finds out about the state folder: whether this version can use what is in it."""

from collections.abc import Iterator
from pathlib import Path

from appliance import __version__
from appliance.cli.checks import Check
from appliance.errors import FailedPrecondition
from appliance.state import backup
from appliance.state import stamp as stamps
from appliance.state.stamp import Course


def check_state(state: Path) -> Iterator[Check]:
    """One finding, or none when the folder is new or not for this user to read."""
    try:
        stamp = stamps.read(state)
        if stamp is None:
            return
        course = stamps.course(stamp)
        if course is Course.REFUSE:
            raise stamps.refusal(state, stamp, __version__, backup.names(state))
    except FailedPrecondition as error:
        found, _, advice = error.message.partition(": ")
        yield Check("state", "bad", found, advice)
        return
    except OSError:
        return
    later = "; the next start makes a backup and upgrades it" if course is Course.UPGRADE else ""
    yield Check("state", "ok", f"in format {stamp.format}{later}")
