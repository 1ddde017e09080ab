"""Writing the status onto a stick: the key and the counter that last, and sticks that are not to be trusted or written to."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import __version__, limits
from appliance.clock import FakeClock
from appliance.model_spec import Card, ModelFile, ModelSpec
from appliance.osutil import faults
from appliance.registry.bundle import return_format, returned
from appliance.registry.bundle.device_key import DeviceKey
from appliance.registry.bundle.return_format import Returned
from appliance.registry.bundle.returned import Known, NotReturned, WriteBack
from appliance.registry.trust.verified import RoleState, Verified
from appliance.sync_questions import SyncLine, SyncStatus
from appliance.versions import BadVersion, Desired, ModelVersion

DEVICE = "0123456789abcdef"
SPEC = ModelSpec("press", "1.0.0", "fake", (ModelFile("model.json", "model"),), Card("MIT", "a test", "tests", "none"))
MODELS = tuple(ModelVersion("press", v, f"sha256:{v}", 1, "", SPEC) for v in ("1.0.0", "2.0.0"))
DESIRED = (Desired("press", "2.0.0", quarantined=(BadVersion("1.5.0", "sha256:x", "worse"),)),)
ROLES = (RoleState("root", 3, 1_900_000_000), RoleState("timestamp", 40, 1_800_000_000))
STATUS = SyncStatus(
    lines=(SyncLine("press", "2.0.0", "installed"), SyncLine("vad", "7.0.0", "refused", "no room")),
    alarms=("the timestamp expires tomorrow",),
    error="the stick was pulled out",
)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


class Machine:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.clock = FakeClock()
        self.known = Known(MODELS, DESIRED, Verified((), (), ROLES))

    def write(self, stick: Path) -> Path:
        """By a process of its own, as far as anything is kept."""
        return WriteBack(self.state, DEVICE, lambda: self.known, self.clock)(stick, STATUS)

    def read(self, stick: Path) -> Returned:
        return return_format.read(self.write(stick).read_bytes())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "state")


def test_it_says_all_that_headquarters_wants_to_know(machine: Machine, stick: Path) -> None:
    path = machine.write(stick)
    assert path == stick / "return" / f"{DEVICE}.json"
    report = return_format.read(path.read_bytes()).report
    assert (report.device, report.appliance, report.at_s) == (DEVICE, __version__, 1_700_000_000)
    assert report.root_version == 3
    assert [(role.role, role.version) for role in report.roles] == [("root", 3), ("timestamp", 40)]
    press, vad = report.lines
    assert (press.active, press.stored, press.quarantined) == ("2.0.0", ("1.0.0", "2.0.0"), ("1.5.0",))
    assert (vad.active, vad.wanted, vad.state, vad.reason) == ("", "7.0.0", "refused", "no room")
    assert report.alarms == STATUS.alarms
    assert report.error == STATUS.error


def test_before_any_root_or_model(machine: Machine, stick: Path) -> None:
    machine.known = Known((), (), None)
    report = machine.read(stick).report
    assert report.root_version == 0
    assert [line.line for line in report.lines] == ["press", "vad"]


def test_the_key_stays_and_the_counter_rises(machine: Machine, stick: Path) -> None:
    first, second = machine.read(stick), machine.read(stick)
    assert first.key == second.key
    assert second.report.counter > first.report.counter
    machine.clock = FakeClock(wall_ns=1_000_000_000)  # set back: the counter is not
    assert machine.read(stick).report.counter > second.report.counter
    found = machine.state / "trust/device.key"
    assert stat.S_IMODE(found.stat().st_mode) == 0o600


def test_a_lost_counter_goes_on_at_the_time(machine: Machine, stick: Path) -> None:
    before = machine.read(stick).report.counter
    for damage in (b"", b"{", b'{"counter": 5, "check": "sha256:0"}', b"x" * 10_000):
        (machine.state / "trust/return_counter").write_bytes(damage)
        machine.clock.advance(60)
        now = machine.read(stick).report.counter
        assert now > before
        before = now


@pytest.mark.parametrize("damage", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_has_decayed_is_set_aside(machine: Machine, stick: Path, damage: bytes) -> None:
    first = machine.read(stick)
    path = machine.state / "trust/device.key"
    path.write_bytes(damage)
    second = machine.read(stick)
    assert second.key != first.key
    assert path.with_name("device.key.broken").read_bytes() == damage
    assert machine.read(stick).key == second.key


def test_another_kind_of_key_is_none(machine: Machine) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = machine.state / "trust"
    DeviceKey(folder).load()
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "device.key").write_bytes(pem)
    DeviceKey(folder).load().sign(b"an Ed25519 key signs without more words")


@pytest.mark.parametrize("point", ["key.write", "key.rename", "counter.write", "counter.fsync", "write", "rename"])
def test_a_disk_that_fails_is_told_and_the_next_one_works(machine: Machine, stick: Path, point: str) -> None:
    faults.arm(f"return.{point}=enospc")
    with pytest.raises(NotReturned):
        machine.write(stick)
    assert list(stick.rglob("*.json")) == []
    faults.arm("")
    assert machine.read(stick).report.device == DEVICE


@pytest.mark.parametrize(
    ("number", "words"), [("EROFS", "read-only"), ("EACCES", "may not write"), ("EIO", "Input/output error")]
)
def test_a_stick_that_cannot_be_written_to(
    machine: Machine, stick: Path, monkeypatch: pytest.MonkeyPatch, number: str, words: str
) -> None:
    import errno

    code = getattr(errno, number)

    def mkdir(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    machine.write(stick)
    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(NotReturned, match=words):
        machine.write(stick)


def test_a_link_in_its_place_leads_nowhere(machine: Machine, stick: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (stick / "return").symlink_to(tmp_path / "etc")
    with pytest.raises(NotReturned, match="is a link"):
        machine.write(stick)
    assert list((tmp_path / "etc").iterdir()) == []


def test_a_stick_that_is_gone(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(NotReturned, match="No such file"):
        machine.write(tmp_path / "nothing")


def test_more_than_a_status_holds_is_cut(machine: Machine, stick: Path) -> None:
    models = tuple(ModelVersion("press", f"1.0.{n}", "sha256:x", 1, "", SPEC) for n in range(100))
    lines = tuple(SyncLine(f"line-{n:05}", "1.0.0", "refused", "x" * 5000) for n in range(3000))
    status = SyncStatus(lines=lines, alarms=("y" * 5000,) * 2000)
    report = returned.report(DEVICE, 1, 1, Known(models, (), None), status)
    assert len(report.lines) == limits.return_entries_max
    assert report.lines_left_out == 3001 - limits.return_entries_max
    key = DeviceKey(machine.state / "trust").load()
    assert len(return_format.encode(report, key)) <= limits.return_bytes_max
    press = returned.report(DEVICE, 1, 1, Known(models, (), None), SyncStatus()).lines[0]
    assert press.stored == tuple(f"1.0.{n}" for n in range(68, 100))
