"""Sticks made to do harm: each attack is mounted on a stick with real signed releases, and costs a typed error, no more."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sticks

from appliance.errors import ApplianceError, InvalidArgument
from appliance.registry.bundle.stick import NoLayout, open_stick
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.store.manifest import digest_of

BIG = bytes(range(256)) * 8000


@pytest.fixture(autouse=True)
def nothing_hangs() -> Iterator[None]:
    """A stick that makes a read wait for ever fails its test by name instead."""

    def late(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return sticks.desk(tmp_path_factory.mktemp("hq"), **{"weights/big.bin": BIG})


@pytest.fixture
def stick(desk, tmp_path: Path) -> Path:  # type: ignore[no-untyped-def]
    sticks.exported(desk, tmp_path / "stick")
    return tmp_path / "stick"


@pytest.fixture
def box(desk, tmp_path: Path) -> sticks.Box:  # type: ignore[no-untyped-def]
    return sticks.Box(tmp_path / "box", desk.root(), desk.clock)


@pytest.fixture
def big(stick: Path) -> Path:
    return stick / "blobs/sha256" / digest_of(BIG).partition(":")[2]


def test_a_good_stick(stick: Path, box: sticks.Box) -> None:
    assert box.visit(stick) == ["press:1.0.0"]
    assert box.visit(stick) == ["press:1.0.0"]


def gone(path: Path) -> None:
    path.unlink()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_out(path: Path) -> None:
    """To the very bytes that are wanted, elsewhere."""
    moved = path.rename(path.parents[3] / "elsewhere")
    path.symlink_to(moved)


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def bound_socket(path: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(1 << 40)


def other_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (gone, Absent),
        (fifo, Malformed),
        (folder, Malformed),
        (link_out, Malformed),
        (link_to_itself, Malformed),
        (device, Malformed),
        (bound_socket, (Malformed, Unreachable)),
        (truncated, Unreachable),
        (longer, Malformed),
        (other_bytes, Malformed),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_blob_that_is_none(
    stick: Path, big: Path, box: sticks.Box, attack: Callable[[Path], None], error: type[Exception]
) -> None:
    attack(big)
    with pytest.raises(error):
        box.visit(stick)
    assert not box.blobs.path(big.name).exists()
    assert box.folder.stat().st_dev == stick.stat().st_dev  # a hard link would have been possible
    if big.is_dir():
        big.rmdir()
    big.unlink(missing_ok=True)
    big.write_bytes(BIG)
    assert box.visit(stick) == ["press:1.0.0"]


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize(
    "attack", [gone, fifo, folder, link_out, link_to_itself, device, longer], ids=lambda a: a.__name__
)
def test_a_layout_that_is_none(stick: Path, name: str, attack: Callable[[Path], None]) -> None:
    if attack is link_out:
        (stick / name).rename(stick.parent / "elsewhere")
        (stick / name).symlink_to(stick.parent / "elsewhere")
    else:
        attack(stick / name)
    with pytest.raises(NoLayout, match="no OCI layout"):
        open_stick(stick)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("oci-layout", "{}"),
        ("oci-layout", '{"imageLayoutVersion": "9.0.0"}'),
        ("oci-layout", '{"imageLayoutVersion": 1}'),
        ("oci-layout", "\xff"),
        ("index.json", "[" * 100_000),
        ("index.json", '{"schemaVersion": 1, "manifests": []}'),
        ("index.json", '{"schemaVersion": 2, "manifests": [{"mediaType": "x", "digest": "sha256:../..", "size": 1}]}'),
        ("index.json", '{"schemaVersion": 2, "manifests": 7}'),
        ("index.json", ""),
    ],
)
def test_files_that_say_something_else(stick: Path, name: str, text: str) -> None:
    (stick / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(NoLayout):
        open_stick(stick)


def test_paths_that_are_none(stick: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "nothing", tmp_path / "file", stick / ".." / "stick", Path("/dev/null")):
        with pytest.raises(InvalidArgument):
            open_stick(path)
    with pytest.raises(NoLayout, match="is it the right folder"):
        open_stick(tmp_path)


def test_the_folder_itself_is_the_operators_word(stick: Path, box: sticks.Box, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(stick)
    assert box.visit(tmp_path / "link") == ["press:1.0.0"]


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256"])
def test_folders_that_lead_elsewhere_or_round_and_round(stick: Path, box: sticks.Box, name: str) -> None:
    (stick / name).rename(stick.parent / "elsewhere")
    (stick / name).symlink_to(stick.parent / "elsewhere")
    with pytest.raises(ApplianceError):
        box.visit(stick)
    (stick / name).unlink()
    (stick / name).symlink_to(stick)
    with pytest.raises(ApplianceError):
        box.visit(stick)
    assert box.bytes() == 0


def test_an_index_that_names_other_blobs(stick: Path, box: sticks.Box) -> None:
    """A name leads to what somebody else signed, or nobody: that is for the signatures to see."""
    index = json.loads((stick / "index.json").read_text())
    entries = index["manifests"]
    for entry in entries:
        entry["digest"], entry["size"] = entries[0]["digest"], entries[0]["size"]
    (stick / "index.json").write_text(json.dumps(index))
    with pytest.raises(ApplianceError):
        box.visit(stick)
    assert box.bytes() == 0


def test_a_blob_that_changes_while_it_is_read(
    stick: Path, big: Path, box: sticks.Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sticks.PulledOut(monkeypatch)
    box.visit(stick)
    reads = out.seen
    for at in range(reads - 8, reads + 1):
        fresh = sticks.Box(box.folder.parent / f"box-{at}", box.root, box.clock)
        out.seen = 0
        step = out.step

        def changing(at: int = at, step: Callable[[], None] = step) -> None:
            step()
            if out.seen == at:
                big.write_bytes(BIG[::-1])

        monkeypatch.setattr(out, "step", changing)
        try:
            fresh.visit(stick)
        except (Malformed, Unreachable):
            assert not fresh.blobs.path(big.name).exists()
        else:
            assert fresh.blobs.path(big.name).read_bytes() == BIG
        big.write_bytes(BIG)
        monkeypatch.setattr(out, "step", step)
        assert fresh.visit(stick) == ["press:1.0.0"]


def test_what_was_copied_is_the_machines_own(stick: Path, big: Path, box: sticks.Box) -> None:
    box.visit(stick)
    big.chmod(0o644)
    big.write_bytes(b"other bytes, written through any link there might be")
    assert box.blobs.path(big.name).read_bytes() == BIG


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_an_index_without_end_costs_no_memory(stick: Path) -> None:
    import resource

    (stick / "index.json").unlink()
    with (stick / "index.json").open("wb") as file:
        file.truncate(1 << 42)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NoLayout, match="at most"):
        open_stick(stick)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024
