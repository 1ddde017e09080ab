"""Sources that cut, lie and ignore ranges; seeds that rot; indexes that lie; disks that fail; kills at any moment."""

import subprocess
import sys
from pathlib import Path

import pytest
from delta_box import MIB, Box, RangedSource, Turn, noise

from appliance import limits
from appliance.osutil import faults
from appliance.registry.delta import index
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable

OLD = noise(2, 4 * MIB)
# Three places are new, more than a request's cost apart.
NEW = b"new head" + OLD[:MIB] + noise(3, 300_000) + OLD[MIB : 3 * MIB] + b"new middle" + OLD[3 * MIB :]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path, NEW, OLD)


def reason(box: Box) -> str:
    with pytest.raises(DeltaFailed) as caught:
        box.run()
    assert box.holds_a_beginning()
    return caught.value.reason


def test_a_good_source(box: Box) -> None:
    saved = box.run()
    assert box.holds()
    assert [offset for offset, _ in box.source.asked] == sorted(offset for offset, _ in box.source.asked)
    assert len(box.source.asked) == saved.requests == 3
    assert saved.fetched == box.source.sent < MIB


@pytest.mark.parametrize("cut", [0, 1, 5000, 70_000])
def test_a_line_that_breaks_is_gone_on_with(box: Box, cut: int) -> None:
    box.source.turns = [Turn(), Turn(cut=cut), Turn(cut=cut)]
    saved = box.run()
    assert box.holds()
    start = box.source.asked[1][0]
    assert [offset for offset, _ in box.source.asked[1:4]] == [start, start + cut, start + 2 * cut]
    assert saved.fetched == box.source.sent < MIB


def test_an_answer_that_ends_early_is_gone_on_with(box: Box) -> None:
    box.source.turns = [Turn(end=1000), Turn(), Turn(end=0), Turn(end=1)]
    box.run()
    assert box.holds()


def test_a_line_that_stays_broken(box: Box) -> None:
    """The same call goes on later; nothing that came is fetched again."""
    box.source.turns = [Turn(), Turn(cut=70_000)]
    box.source.otherwise = Turn(cut=0)
    with pytest.raises(Unreachable):
        box.run()
    assert box.holds_a_beginning()
    assert len(box.left) > 900_000
    assert len(box.source.asked) == 2 + limits.pull_idle_tries_max
    box.source.otherwise = Turn()
    there = len(box.left)
    assert box.run().there == there
    assert box.holds()


@pytest.mark.parametrize("ranges_before", [0, 1, 2])
def test_a_server_that_ignores_ranges_sends_it_all(box: Box, ranges_before: int) -> None:
    box.source.turns = [Turn()] * ranges_before
    box.source.otherwise = Turn(whole=True)
    saved = box.run()
    assert box.holds()
    # The first range begins at 0, where nobody can tell; from the second on one stream brings the rest.
    assert saved.requests == max(2, ranges_before + 1)
    assert saved.fetched == box.source.sent < len(NEW) + MIB


def test_the_whole_stream_breaks(box: Box) -> None:
    box.source.turns = [Turn(), Turn(whole=True, cut=MIB), Turn(whole=True, cut=MIB + 400_000), Turn()]
    box.run()
    assert box.holds()


def test_a_whole_stream_that_never_gets_there(box: Box) -> None:
    box.source.turns = [Turn()]
    box.source.otherwise = Turn(whole=True, cut=MIB // 2)
    with pytest.raises(Unreachable):
        box.run()
    assert box.source.sent < 2 * len(NEW)


def test_a_whole_stream_that_gets_there_by_inches(box: Box) -> None:
    """From the start each time, and some bytes further."""
    box.run()
    start = box.source.asked[1][0]
    box.target.unlink()
    box.source.sent = 0
    box.source.turns = [Turn(), *(Turn(whole=True, cut=start + 1000 * n) for n in range(1, 100))]
    assert reason(box) == "SOURCE"
    assert box.source.sent < 2.2 * len(NEW)


def test_a_source_that_sends_one_byte_a_request(box: Box) -> None:
    box.source.otherwise = Turn(cut=1)
    assert reason(box) == "SOURCE"
    assert len(box.source.asked) <= 2 * limits.delta_ranges_max


@pytest.mark.parametrize(
    "turn",
    [
        Turn(instead=bytes(len(NEW))),
        Turn(instead=NEW[1:] + b"x"),
        Turn(instead=OLD),
        Turn(whole=True, instead=bytes(len(NEW))),
        Turn(shift=1),
        Turn(shift=4096),
        Turn(fat=1),
        Turn(fat=10 * MIB),
        Turn(refuse=Refused("who are you?")),
        Turn(refuse=Absent("no such blob")),
        Turn(refuse=Malformed("416")),
    ],
    ids=["zeros", "shifted", "old", "whole, zeros", "later", "much later", "fat", "obese", "refused", "absent", "416"],
)
@pytest.mark.parametrize("nth", [0, 1, 2])
def test_a_source_that_lies(box: Box, turn: Turn, nth: int) -> None:
    box.source.turns = [Turn()] * nth + [turn]
    assert reason(box) == "SOURCE"
    assert (len(box.left) > 900_000) == (nth > 0)
    box.run()
    assert box.holds()


def test_a_source_whose_blob_is_shorter(tmp_path: Path) -> None:
    box = Box(tmp_path, NEW + noise(8, 80_000), NEW)
    box.source.otherwise = Turn(instead=NEW)
    with pytest.raises(Unreachable, match="stopped in the middle"):
        box.run()
    assert box.holds_a_beginning()


@pytest.mark.parametrize("at", [100_000, 2 * MIB, 3 * MIB + 200_000])
def test_a_seed_that_has_rotted(box: Box, at: int) -> None:
    """Its chunks were remembered when it was sound."""
    box.run()
    box.target.unlink()
    path = box.seeds_made[0].path
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert reason(box) == "SEED"
    # The seed is read again, and what has rotted is fetched.
    assert box.run().fetched < MIB
    assert box.holds()


def test_a_seed_that_goes_away_meanwhile(box: Box) -> None:
    box.run()
    box.target.unlink()
    box.seeds_made[0].path.unlink()
    # It is in the cache, and gone.
    assert reason(box) == "SEED"


def lying(box: Box, **changed: object) -> None:
    """An index that is well-formed and untrue."""
    box.entry = box.entry._replace(**changed)  # type: ignore[arg-type]
    index.parse(index.encode([box.entry]))
    source = RangedSource()
    source.blobs[box.entry.digest] = box.new
    box.source = source


def records(box: Box) -> list[bytes]:
    data = bytes(box.entry.records)
    return [data[at : at + index.CHUNK_BYTES] for at in range(0, len(data), index.CHUNK_BYTES)]


def test_an_index_with_another_whole(box: Box) -> None:
    lying(box, sha256=bytes(32))
    with pytest.raises(DeltaFailed) as caught:
        box.run()
    assert caught.value.reason == "BAD_INDEX"
    assert box.left == b""
    assert box.came == 0


@pytest.mark.parametrize("number", [0, 1, 10, -1])
def test_an_index_with_a_wrong_hash(box: Box, number: int) -> None:
    found = records(box)
    found[number] = found[number][:4] + bytes(32)
    lying(box, records=b"".join(found))
    assert reason(box) == "SOURCE"


def test_an_index_with_chunks_in_another_order(box: Box) -> None:
    """Each chunk is what it says; the blob is not."""
    found = records(box)
    number = found.index(records(Box(box.folder, OLD))[2])  # which comes from the seed
    found[number], found[number + 1] = found[number + 1], found[number]
    lying(box, records=b"".join(found))
    with pytest.raises(DeltaFailed) as caught:
        box.run()
    assert caught.value.reason == "BAD_INDEX"
    assert box.left == b""


def test_an_index_with_other_lengths(box: Box) -> None:
    """Same hashes, cut elsewhere: what the seed has at these places is something else."""
    found = records(box)
    one, two = (int.from_bytes(found[n][:4], "big") for n in (5, 6))
    found[5] = (one - 100).to_bytes(4, "big") + found[5][4:]
    found[6] = (two + 100).to_bytes(4, "big") + found[6][4:]
    lying(box, records=b"".join(found))
    assert reason(box) == "SEED"


def test_an_index_whose_repeated_chunk_has_another_length(tmp_path: Path) -> None:
    box = Box(tmp_path, bytes(4 * MIB))
    found = records(box)
    found[-1] = (2**17).to_bytes(4, "big") + found[0][4:]
    found[-2] = (2**17).to_bytes(4, "big") + found[0][4:]
    lying(box, records=b"".join(found), size=4 * MIB - 2**18)
    assert reason(box) == "BAD_INDEX"


POINTS = ("delta.truncate", "delta.write", "delta.write@20", "delta.sync")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_disk_that_fails(box: Box, point: str, action: str) -> None:
    name, _, nth = point.partition("@")
    faults.arm(f"{name}={action}" + (f"@{nth}" if nth else ""))
    try:
        with pytest.raises(OSError, match=name):
            box.run()
    finally:
        faults.arm("")
    assert box.holds_a_beginning()
    box.run()
    assert box.holds()


_KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_rebuild_faults import NEW, OLD, Box
Box(Path({folder!r}), NEW, OLD).run()
"""


@pytest.mark.parametrize("point", [*POINTS, "delta.write@40", "delta.cache.write", "delta.cache.fsync",
                                   "delta.cache.rename", "delta.cache.folder"])  # fmt: skip
def test_a_kill_at_any_moment(tmp_path: Path, point: str) -> None:
    name, _, nth = point.partition("@")
    code = _KILLED.format(path=[str(Path(__file__).parent), *sys.path], folder=str(tmp_path))
    environment = {"APPLIANCE_FAULTS": f"{name}=kill" + (f"@{nth}" if nth else "")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False)
    assert done.returncode == -9
    box = Box(tmp_path, NEW, OLD)
    there = len(box.left)
    assert box.holds_a_beginning()
    assert box.run().there == there
    assert box.holds()


def test_what_a_power_cut_has_not_kept_is_made_again(box: Box) -> None:
    """The file has its length and not all of its bytes: blocks that were not synced are zeros."""
    box.run()
    whole = bytearray(box.left)
    whole[2 * MIB : 2 * MIB + 4096] = bytes(4096)
    box.target.write_bytes(whole)
    saved = box.run()
    assert box.holds()
    assert MIB < saved.there <= 2 * MIB
