"""How `appliance publish` shows a repository: releases, roles with their expiry, and what waits for signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.publish.release.status import Status

_MARKS = {"expired": "!", "soon": "~", "fine": ""}


def show_fingerprints(found: Sequence[tuple[str, str]]) -> None:
    """The keys that were made, as people compare them; the root's are what boxes are set up with."""
    from appliance.publish.release.keys import fingerprint

    for role, keyid in found:
        output.say(f"{role}\n  {fingerprint(keyid)}")


def show(status: Status, as_json: bool) -> None:
    """All of it."""
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(status)
    output.emit(document, as_json, lambda: _render(status))


def _render(status: Status) -> None:
    output.say(f"{status.prefix}, registry: {status.registry}\n")
    if status.releases:
        headings = ("LINE", "VERSION", "CHANNELS", "FOR", "WAVES", "RELEASED", "MANIFEST")
        output.table([(h, "left") for h in headings], [_release(one) for one in status.releases])
    else:
        output.say("Nothing is released: appliance publish release LINE VERSION")
    output.say("")
    if status.roles:
        columns = ("ROLE", "VERSION", "EXPIRES", "SIGNATURES", "KEYS (* here)")
        output.table([(h, "left") for h in columns], [_role(one) for one in status.roles])
    if status.waiting:
        output.say("\nWaits for signatures (appliance publish request):")
        for line in status.waiting.changes:
            if not line.startswith(" "):
                output.say(f"  {line}")
        output.say(f"  {status.waiting.missing}")
    if status.unused_keys:
        output.say(f"\nIn no role any more, to be destroyed: {', '.join(status.unused_keys)}")


def _release(one: Any) -> list[str]:
    only = [*one.hardware, *one.regions] or ["all"]
    waves = ",".join(f"{wave.percent:g}" for wave in one.waves) or "at once"
    when = output.moment(one.released_s * 1000)[:10]
    digest = one.digest.removeprefix("sha256:")[:12]
    return [one.line, one.version, ",".join(one.channels), ",".join(only), waves, when, digest]


def _role(one: Any) -> list[str]:
    expires = _MARKS[one.expiry] + output.moment(one.expires_s * 1000)[:16]
    held = " ".join(key.keyid[:8] + ("*" if key.here else "") for key in one.keys)
    return [one.role, str(one.version), expires, f"{one.threshold} of {len(one.keys)}", held]
