"""Updates that bring only the chunks that are new, over real HTTP; and all that may go wrong with that, which costs bytes only."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from delta_box import MIB, entry_of, noise
from delta_rig import NEW, OLD, PLACE, Headquarters, Machine
from registry_simulator import Fault, RegistrySimulator

from appliance.errors import Cancelled
from appliance.registry.delta import index
from appliance.registry.loop import deltas
from appliance.registry.release import Chunks
from appliance.registry.sources.layout import LayoutSource
from appliance.store.manifest import digest_of


def test_an_edit_moves_one_percent(
    headquarters: Headquarters, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    release = headquarters.release("2.0.0", NEW)
    with caplog.at_level(logging.INFO):
        brought = machine.bring(release)
    assert machine.holds(release, NEW)
    assert headquarters.registry.sent < len(NEW) * 0.03  # chunks of 64 KiB in 6 MiB
    assert brought.saved_bytes == pytest.approx(len(NEW), rel=0.03)
    assert machine.shown == sorted(machine.shown)
    assert machine.shown[-1] == release.bytes
    assert any(f"{brought.saved_bytes} bytes" in line for line in caplog.messages)
    assert machine.partial == []
    # What blobs are made of is remembered of those that are here.
    (machine.state / "chunks" / f"{'0' * 64}.16.chunks").write_bytes(b"")
    machine.bring(headquarters.release("3.0.0", OLD + b"tail"))
    remembered = {path.name[:64] for path in (machine.state / "chunks").iterdir()}
    assert remembered
    assert remembered <= set(machine.store.blobs.names())


def test_every_byte_that_comes_waits_for_the_bandwidth(
    headquarters: Headquarters, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced: list[int] = []
    monkeypatch.setattr(machine.errands.bandwidth, "take", lambda count, _cancelled: paced.append(count))
    release = headquarters.release("2.0.0", NEW)
    machine.bring(release)
    assert sum(paced) == headquarters.registry.sent - release.manifest_bytes


def _no_index(registry: RegistrySimulator, chunks: Chunks) -> None:
    del registry.blobs[PLACE, chunks.digest]


def _other_index(registry: RegistrySimulator, chunks: Chunks) -> None:
    registry.blobs[PLACE, chunks.digest] = index.encode([entry_of(OLD)])


def _larger_index(registry: RegistrySimulator, chunks: Chunks) -> None:
    registry.blobs[PLACE, chunks.digest] += bytes(20 * MIB)


def _first_blobs(*turns: Fault) -> Callable[[RegistrySimulator, Chunks], None]:
    """The first request for a blob is for the index."""

    def spoil(registry: RegistrySimulator, chunks: Chunks) -> None:
        registry.faults["blob"] = list(turns)

    return spoil


OK = Fault()
SPOILT = {
    "no index": _no_index,
    "an index of other blobs": _other_index,
    "an index larger than signed": _larger_index,
    "an index that breaks off": _first_blobs(Fault(cut=100)),
    "an index that is refused": _first_blobs(Fault(status=403)),
    "an index with a flipped byte": _first_blobs(Fault(corrupt=50)),
}


@pytest.mark.parametrize("name", SPOILT)
def test_an_index_that_cannot_be_had_costs_the_delta_only(
    headquarters: Headquarters, machine: Machine, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    release = headquarters.release("2.0.0", NEW)
    assert release.chunks is not None
    SPOILT[name](headquarters.registry, release.chunks)
    with caplog.at_level(logging.INFO):
        brought = machine.bring(release)
    assert machine.holds(release, NEW)
    assert brought.saved_bytes == 0
    assert headquarters.registry.sent >= len(NEW)
    told = [record for record in caplog.records if "whole" in record.message]
    assert [record.levelno for record in told] == [logging.INFO]


def lying(change: Callable[[list[bytes]], None]) -> bytes:
    """A signed index that is not true."""
    entry = entry_of(NEW)
    records = [entry.records[at : at + index.CHUNK_BYTES] for at in range(0, len(entry.records), index.CHUNK_BYTES)]
    change(records)
    return index.encode([entry._replace(records=b"".join(records))])


def _another_hash(records: list[bytes]) -> None:
    records[-1] = records[-1][:4] + bytes(32)


def _another_order(records: list[bytes]) -> None:
    records[8], records[9] = records[9], records[8]


LIES = {
    "no index at all": b"signed by mistake",
    "another hash": lying(_another_hash),
    "another order": lying(_another_order),
    "an empty one": index.encode([]),
    "another blob": index.encode([entry_of(OLD)]),
    "none": b"",
}


@pytest.mark.parametrize("name", LIES)
def test_a_signed_index_that_lies_costs_the_delta_only(headquarters: Headquarters, machine: Machine, name: str) -> None:
    release = headquarters.release("2.0.0", NEW, LIES[name])
    assert machine.bring(release).saved_bytes == 0
    assert machine.holds(release, NEW)


@pytest.mark.parametrize(
    ("turn", "saves"),
    [
        (Fault(whole=True), True),  # a 200 that begins where the range does: no more is read than is needed
        (Fault(status=416), True),  # asked once more without a range
        (Fault(status=500), True),  # asked once more
        (Fault(cut=1000), True),
        (Fault(corrupt=10), False),
        (Fault(status=404), False),
        (Fault(status=206, body=b"x"), False),
        (Fault(status=206, headers=(("Content-Range", "bytes 5-99/100"),), body=b"x" * 95), False),
    ],
    ids=["200", "416", "500", "cut", "wrong bytes", "404", "206 without a range", "206 of another range"],
)
def test_a_server_in_the_middle_of_it(
    headquarters: Headquarters, machine: Machine, turn: Fault, saves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request for a blob is the first range: the machine has all small files of the new version."""
    monkeypatch.setattr("appliance.limits.http_retry_base_s", 0.001)
    release = headquarters.release("2.0.0", NEW)
    small = {
        key: data for key, data in headquarters.registry.blobs.items() if len(data) < MIB and data[:8] != b"appchunk"
    }
    for data in small.values():
        machine.store.blobs.put(data)
    headquarters.registry.faults["blob"] = [OK, turn]
    brought = machine.bring(release)
    assert machine.holds(release, NEW)
    assert headquarters.registry.faults["blob"] == []
    assert (brought.saved_bytes > 5 * MIB) == saves


def test_a_server_that_never_sends_ranges(headquarters: Headquarters, machine: Machine) -> None:
    headquarters.registry.always["blob"] = Fault(whole=True)
    release = headquarters.release("2.0.0", OLD[: 3 * MIB] + noise(9, 100_000) + OLD[3 * MIB :])
    machine.bring(release)
    assert machine.holds(release, OLD[: 3 * MIB] + noise(9, 100_000) + OLD[3 * MIB :])


def test_what_is_new_altogether_is_fetched_whole(headquarters: Headquarters, machine: Machine) -> None:
    new = noise(77, 4 * MIB)
    release = headquarters.release("2.0.0", new)
    assert machine.bring(release).saved_bytes == 0
    assert machine.holds(release, new)
    ranges = [seen for seen in headquarters.registry.asked("blob") if "range" in seen.headers]
    assert ranges == []


def test_small_models_and_machines_without_any_ask_for_no_index(
    headquarters: Headquarters, tmp_path: Path, registry: RegistrySimulator
) -> None:
    empty = Machine(tmp_path / "empty", registry.url)
    release = headquarters.release("2.0.0", NEW)
    assert release.chunks is not None
    empty.bring(release)
    small = headquarters.release("3.0.0", b"small", index.encode([entry_of(NEW)]))
    empty.bring(small)
    assert not any(release.chunks.digest in seen.path for seen in registry.asked("blob"))


@pytest.mark.parametrize("by", ["a stick", "a folder"])
def test_from_a_folder_everything_is_read(
    headquarters: Headquarters, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str
) -> None:
    monkeypatch.setattr(deltas, "begin", lambda *_: pytest.fail("a delta"))
    release = headquarters.release("2.0.0", NEW)
    layout = tmp_path / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    for (_, digest), data in headquarters.registry.blobs.items():
        (layout / "blobs/sha256" / digest[7:]).write_bytes(data)
    for _, data in headquarters.registry.manifests.values():
        (layout / "blobs/sha256" / digest_of(data)[7:]).write_bytes(data)
    if by == "a stick":
        machine.errands.turn_to(LayoutSource(layout))
    else:
        machine = Machine(tmp_path, f"layout:{layout}")
    assert machine.bring(release).saved_bytes == 0
    assert machine.holds(release, NEW)


def test_the_partial_file_of_a_release_that_was_given_up_is_a_seed(
    headquarters: Headquarters, tmp_path: Path, registry: RegistrySimulator
) -> None:
    fresh = Machine(tmp_path / "fresh", registry.url)
    fresh.errands.stop_at = 4 * MIB
    given_up = headquarters.release("1.5.0", OLD)
    with pytest.raises(Cancelled):
        fresh.errands.bring(given_up)
    assert any(name.endswith(".partial") for name in fresh.partial)
    fresh.errands.stop_at, registry.sent = -1, 0
    release = headquarters.release("2.0.0", NEW)
    brought = fresh.bring(release)
    assert fresh.holds(release, NEW)
    assert brought.saved_bytes > 3 * MIB
    assert registry.sent < 3 * MIB
    assert fresh.partial == []
