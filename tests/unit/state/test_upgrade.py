"""A state folder is brought to a newer format whole, whatever comes between, and there is a way back."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from appliance import limits
from appliance.errors import FailedPrecondition, NotFound
from appliance.osutil import durable, faults
from appliance.state import backup, stamp, upgrade
from appliance.state.stamp import Stamp

OLD, NEW = b'{"names": ["a", "b"]}', b'{"models": {"a": {}, "b": {}}}'
FILES = {
    "store/index.json": b"index",
    "store/oci-layout": b"layout",
    "state/desired.json": OLD,
    "comparisons.json": b"c",
}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder in format 1, with a model and trust in it."""
    for name, data in {**FILES, "trust/root.json": b"root", "store/blobs/x": b"weights"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def rewrites(state: Path) -> None:
    """A step that changes a file, adds one, and takes one away; twice is as once."""
    desired = state / "state" / "desired.json"
    found = json.loads(desired.read_bytes())
    if "names" in found:
        durable.write(desired, json.dumps({"models": {name: {} for name in found["names"]}}).encode(), point="step")
    durable.write(state / "state" / "more.json", b"new", point="step")
    (state / "comparisons.json").unlink(missing_ok=True)


def nothing(_: Path) -> None:
    pass


STEPS: Mapping[int, Callable[[Path], None]] = {1: nothing, 2: rewrites}


def kept(state: Path) -> dict[str, bytes]:
    """All that a program of one format or the other would read."""
    patterns = ("store/index.json", "store/oci-layout", "state/*.json", "comparisons.json", "trust/*", "store/blobs/*")
    return {str(p.relative_to(state)): p.read_bytes() for pattern in patterns for p in state.glob(pattern)}


def refused(
    state: Path, steps: Mapping[int, Callable[[Path], None]] = STEPS, version: str = "0.3.0"
) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        upgrade.prepare(state, steps, version)
    return caught.value


def test_a_new_folder_gets_the_newest_format(tmp_path: Path) -> None:
    upgrade.prepare(tmp_path, STEPS, "0.3.0")
    assert stamp.read(tmp_path) == Stamp(3, "0.3.0")
    assert backup.names(tmp_path) == ()


def test_step_by_step_with_a_copy_of_what_was(state: Path) -> None:
    before = kept(state)
    upgrade.prepare(state, STEPS, "0.3.0")
    assert stamp.read(state) == Stamp(3, "0.3.0")
    assert kept(state)["state/desired.json"] == NEW
    assert backup.names(state) == ("format-1",)
    copy = state / "backups" / "format-1"
    assert {name: (copy / name).read_bytes() for name in FILES} == FILES
    assert not (copy / "trust").exists()
    assert {**before, "state/desired.json": NEW, "state/more.json": b"new"} == {**kept(state), "comparisons.json": b"c"}


def test_the_same_format_is_only_signed_by_who_writes_now(state: Path) -> None:
    upgrade.prepare(state, STEPS, "0.3.0")
    before = kept(state)
    upgrade.prepare(state, STEPS, "0.3.1")
    assert stamp.read(state) == Stamp(3, "0.3.1")
    assert kept(state) == before
    assert backup.names(state) == ("format-1",)


def test_an_older_program_refuses_and_says_both_ways_on(state: Path) -> None:
    upgrade.prepare(state, STEPS, "0.3.0")
    before = kept(state)
    error = refused(state, {1: nothing}, "0.2.0")
    assert error.reason == "STATE_TOO_NEW"
    assert "written by 0.3.0 in format 3; this is 0.2.0, which knows formats up to 2" in error.message
    assert "install 0.3.0 again" in error.message
    assert "`appliance state restore format-1`" in error.message
    assert kept(state) == before
    backup.restore(state, "format-1")
    upgrade.prepare(state, {1: nothing}, "0.2.0")
    assert stamp.read(state) == Stamp(2, "0.2.0")


def test_restored_is_as_before_and_what_was_newer_is_kept(state: Path) -> None:
    before = kept(state)
    upgrade.prepare(state, STEPS, "0.3.0")
    after = kept(state)
    (state / "trust" / "root.json").write_bytes(b"next root")
    assert backup.restore(state, "format-1") == Stamp(1)
    assert kept(state) == {**before, "trust/root.json": b"next root"}
    assert backup.names(state) == ("format-1", "format-3-of-0.3.0")
    assert backup.restore(state, "format-3-of-0.3.0") == Stamp(3, "0.3.0")
    assert kept(state) == {**after, "trust/root.json": b"next root"}


def test_no_such_backup(state: Path) -> None:
    upgrade.prepare(state, STEPS, "0.3.0")
    for name in ("format-9", "", "..", "../backups/format-1"):
        with pytest.raises(NotFound, match="there: format-1"):
            backup.restore(state, name)


def test_only_the_newest_backups_stay_and_the_one_that_is_restored(state: Path) -> None:
    for number in range(1, limits.state_backups_max + 3):
        backup.make(state, Stamp(number))
    names = backup.names(state)
    assert names == tuple(f"format-{n}" for n in range(3, limits.state_backups_max + 3))
    stamp.write(state, Stamp(99, "9"))
    assert backup.restore(state, names[0]) == Stamp(3)
    assert "format-99-of-9" in backup.names(state)


@pytest.mark.parametrize(
    "text", [b"", b"no json", b"[2]", b'{"format": "2"}', b'{"format": 0}', b'{"format": -1}', b"x" * 9999]
)
def test_a_stamp_that_says_nothing_is_no_reason_to_guess(state: Path, text: bytes) -> None:
    (state / "format.json").write_bytes(text)
    error = refused(state)
    assert error.reason == "STATE_FORMAT"
    assert "format.json" in error.message
    assert kept(state)["state/desired.json"] == OLD


@pytest.mark.parametrize("point", ["state.backup.write", "state.backup.rename"])
def test_without_room_for_the_copy_nothing_is_touched(state: Path, point: str) -> None:
    before = kept(state)
    faults.arm(f"{point}=enospc@2")
    error = refused(state)
    assert error.reason == "STATE_UPGRADE"
    assert "nothing has changed" in error.message
    assert "No space left" in error.message
    assert (kept(state), stamp.read(state)) == (before, Stamp(1))
    faults.arm("")
    upgrade.prepare(state, STEPS, "0.3.0")
    assert kept(state)["state/desired.json"] == NEW


def test_a_step_that_fails_says_how_to_go_back_and_runs_again(state: Path) -> None:
    faults.arm("step.rename=eio@2")
    error = refused(state)
    assert "from format 2 to 3" in error.message
    assert "`appliance state restore format-1`" in error.message
    assert stamp.read(state) == Stamp(2, "0.3.0")
    faults.arm("")
    upgrade.prepare(state, STEPS, "0.3.0")
    assert stamp.read(state) == Stamp(3, "0.3.0")


# What a process does that dies at the N-th fault point; then again, without faults.
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{folder!r}]
from test_upgrade import STEPS, backup, faults, upgrade
faults.arm(sys.argv[2])
state = Path(sys.argv[1])
{what}
"""
WHAT = {
    "upgrade": "upgrade.prepare(state, STEPS, '0.3.0')",
    "restore": "backup.restore(state, 'format-1')",
}


def run(what: str, state: Path, armed: str) -> "subprocess.CompletedProcess[str]":
    code = SCRIPT.format(folder=str(Path(__file__).parent), what=WHAT[what])
    return subprocess.run([sys.executable, "-c", code, str(state), armed], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("what", WHAT)
def test_killed_at_any_point_and_done_again(tmp_path: Path, what: str) -> None:
    """Cut off anywhere, and done again: as if nothing had been; both backups whole."""
    made(tmp_path / "whole")
    if what == "restore":
        upgrade.prepare(tmp_path / "whole", STEPS, "0.3.0")
    passed = run(what, copied(tmp_path / "whole", tmp_path / "expected"), "*=print").stderr.split()
    expected = whole(tmp_path / "expected")
    assert len(passed) > 20
    for number, point in enumerate(passed):
        state = copied(tmp_path / "whole", tmp_path / f"at{number}")
        nth = passed[: number + 1].count(point)
        assert run(what, state, f"{point}=kill@{nth}").returncode == -signal.SIGKILL
        assert run(what, state, "").returncode == 0
        assert whole(state) == expected, f"after {point}@{nth}"


def made(state: Path) -> Path:
    for name, data in FILES.items():
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_bytes(data)
    return state


def copied(source: Path, target: Path) -> Path:
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


def whole(state: Path) -> dict[str, bytes]:
    """All files but what a process that died left half-written."""
    found = {str(p.relative_to(state)): p for p in state.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not any(map(durable.is_temp, Path(name).parts))}
