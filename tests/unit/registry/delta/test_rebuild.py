"""What a delta moves: edits, shifts, repeats, several seeds; and when the whole blob is fetched instead."""

import logging
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from delta_box import MIB, Box, Turn, entry_of, gguf_like, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import Cancelled
from appliance.registry.delta import index
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.rebuild import Saved
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.pull.download import Download
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor

WEIGHTS = noise(1, 32 * MIB)
SMALL = noise(2, 4 * MIB)
OTHER = noise(3, 4 * MIB)


def test_an_edit_of_metadata_moves_under_one_percent(tmp_path: Path) -> None:
    """The index that has to be fetched for it counts as well."""
    old, new = gguf_like(b"line-2", WEIGHTS), gguf_like(b"line-2, quantised by HQ", WEIGHTS)
    box = Box(tmp_path, new, old)
    saved = box.run()
    assert box.holds()
    assert 0 < saved.fetched == box.source.sent
    assert saved.fetched + len(index.encode([box.entry])) < len(new) / 100
    assert len(box.source.asked) == saved.requests == 1


def test_one_changed_block_moves_little_more_than_the_block(tmp_path: Path) -> None:
    new = WEIGHTS[: 8 * MIB] + noise(9, MIB) + WEIGHTS[9 * MIB :]
    box = Box(tmp_path, new, WEIGHTS)
    saved = box.run()
    assert box.holds()
    assert MIB <= saved.fetched < 1.25 * MIB


@pytest.mark.parametrize(
    ("new", "fetched_max"),
    [
        (b"new head" + SMALL, 140_000),
        (SMALL[1000:], 140_000),
        (SMALL + b"new tail", 140_000),
        (SMALL[:MIB] + b"?" * 999 + SMALL[MIB:], 270_000),
        (SMALL[2 * MIB :] + SMALL[: 2 * MIB], 400_000),
        (SMALL, 0),
        (SMALL + SMALL, 270_000),
        (SMALL[: 2 * MIB], 140_000),
    ],
    ids=["head", "cut head", "tail", "insert", "swap", "same", "twice", "half"],
)
def test_shifted_contents(tmp_path: Path, new: bytes, fetched_max: int) -> None:
    box = Box(tmp_path, new, SMALL)
    saved = box.run()
    assert box.holds()
    assert box.source.sent == saved.fetched <= fetched_max
    assert box.came == len(new)
    assert saved == Saved(len(new), saved.fetched, 0, len(box.source.asked), 1)


def test_several_seeds(tmp_path: Path) -> None:
    box = Box(tmp_path, SMALL[: 2 * MIB] + OTHER[2 * MIB :], noise(4, 2 * MIB), OTHER, SMALL)
    saved = box.run()
    assert box.holds()
    assert saved.seeds == 2
    assert saved.fetched < 270_000


def test_what_repeats_is_fetched_once(tmp_path: Path) -> None:
    box = Box(tmp_path, bytes(4 * MIB) + OTHER[:MIB] + bytes(4 * MIB))
    saved = box.run()
    assert box.holds()
    assert saved.fetched < 1.75 * MIB
    assert saved.seeds == 0


def requantised(old: bytes) -> bytes:
    """Every weight is another number."""
    return bytes(byte ^ 0x55 for byte in old)


@pytest.mark.parametrize(
    "olds", [[requantised(SMALL)], [], [SMALL[:1000]]], ids=["requantised", "no seed", "tiny seed"]
)
def test_what_does_not_pay_is_not_begun(tmp_path: Path, olds: list[bytes]) -> None:
    box = Box(tmp_path, SMALL, *olds)
    with pytest.raises(DeltaFailed) as caught:
        box.run()
    assert caught.value.reason == "NOT_WORTH"
    assert box.source.asked == []
    assert box.left == b""


@pytest.mark.parametrize("data", [b"", b"x", b"tiny" * 100])
def test_empty_and_tiny_blobs(tmp_path: Path, data: bytes) -> None:
    """A publisher puts none of them into an index; one that is in it all the same does no harm."""
    box = Box(tmp_path, data, SMALL)
    assert box.outcome() == ("NOT_WORTH" if data else "")
    assert box.holds_a_beginning()


def test_the_figure_saved_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Box(tmp_path, b"new head" + SMALL, SMALL).run()
    assert "fetched 0.1 MiB of 4.0 MiB in 1 requests, the rest from 1 local blobs" in caplog.text


def test_why_it_is_fetched_whole_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(DeltaFailed):
        Box(tmp_path, SMALL).run()
    assert f"{entry_of(SMALL).digest} is fetched whole (NOT_WORTH)" in caplog.text


def test_it_can_be_stopped_and_goes_on(tmp_path: Path) -> None:
    box = Box(tmp_path, b"new head" + SMALL, SMALL)
    box.stop_after = MIB
    with pytest.raises(Cancelled):
        box.run()
    assert box.holds_a_beginning()
    assert MIB <= len(box.left) < 1.5 * MIB
    box.stop_after = -1
    there = len(box.left)
    sent = box.source.sent
    assert box.run() == Saved(len(box.new), 0, there, 0, 1)
    assert box.holds()
    assert box.source.sent == sent
    assert box.came == len(box.new)


@pytest.mark.parametrize("keep", [0, 1, 50_000, 2 * MIB, 4 * MIB - 1, 4 * MIB])
def test_it_goes_on_behind_a_whole_download(tmp_path: Path, keep: int) -> None:
    box = Box(tmp_path, SMALL[: 3 * MIB] + OTHER[3 * MIB :], SMALL)
    box.target.parent.mkdir()
    box.target.write_bytes(box.new[:keep])
    # Behind 3 MiB all that is left is new.
    assert box.outcome() == ("NOT_WORTH" if 2 * MIB < keep < 4 * MIB else "")
    assert box.holds_a_beginning()
    assert len(box.left) > keep - 300_000
    assert box.holds() or keep > 2 * MIB


@pytest.mark.parametrize("decayed", [b"", b"?" * 1000, SMALL[:MIB] + b"?" * MIB, SMALL * 2, OTHER])
def test_a_partial_file_that_has_decayed(tmp_path: Path, decayed: bytes) -> None:
    box = Box(tmp_path, SMALL[: 3 * MIB] + b"new" + SMALL[3 * MIB :], SMALL)
    box.target.parent.mkdir()
    box.target.write_bytes(decayed)
    box.run()
    assert box.holds()


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(tmp_path: Path) -> None:
    box = Box(tmp_path, b"new head" + SMALL, SMALL)
    box.target.parent.mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    box.target.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        box.run()
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("instead", [None, bytes(4 * MIB + 3)], ids=["good", "bad"])
def test_a_whole_download_takes_over(tmp_path: Path, instead: bytes | None) -> None:
    """It takes the file that is whole into the store, or goes on behind what is right, and asks for no more."""
    box = Box(tmp_path, SMALL[: 3 * MIB] + b"new" + SMALL[3 * MIB :], SMALL)
    box.source.turns = [Turn(instead=instead)]
    assert box.outcome() == ("SOURCE" if instead else "")
    there, sent = len(box.left), box.source.sent
    blobs = Blobs(tmp_path / "store")
    blob = Descriptor("x/y", box.entry.digest, box.entry.size)
    download = Download(box.target.parent, blobs, Bandwidth(), lambda: False)
    download.run(box.source, "r", blob, lambda _count: None)
    assert blobs.path(blob.hex).read_bytes() == box.new
    assert there > 2.5 * MIB
    assert box.source.sent - sent == len(box.new) - there
    assert not box.target.exists()


def test_memory_is_that_of_some_chunks(tmp_path: Path) -> None:
    box = Box(tmp_path, gguf_like(b"new", WEIGHTS), gguf_like(b"older", WEIGHTS))
    tracemalloc.start()
    try:
        box.run()
        assert tracemalloc.get_traced_memory()[1] < 3 * MIB
    finally:
        tracemalloc.stop()
    assert box.holds()


PIECES = st.tuples(st.sampled_from([SMALL, OTHER, bytes(4 * MIB)]), st.integers(0, 4 * MIB), st.integers(0, 2 * MIB))


@settings(max_examples=25, deadline=None)
@given(st.lists(PIECES, max_size=4))
def test_any_mixture_of_old_and_new_comes_out_right(pieces: list[tuple[bytes, int, int]]) -> None:
    new = b"".join(data[start : start + length] for data, start, length in pieces)
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder), new, SMALL)
        if box.outcome():
            assert box.source.asked == []
        else:
            assert box.holds()
            assert box.source.sent <= len(new) * 0.9
