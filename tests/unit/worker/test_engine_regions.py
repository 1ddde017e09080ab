"""What an engine does with memory that comes to it, good and bad."""

import fcntl
import gc
import os
from collections.abc import Iterator

import pytest
from shared_files import SharedFile, shared_file

from appliance import limits
from appliance.answers import InferDone
from appliance.calls import InferCall, OutputWanted, ShareCall
from appliance.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from appliance.tensor_heads import TensorHead
from appliance.worker.arena import Arena, ArenaBudget, lay_out
from appliance.worker.engine_regions import EngineRegions

EMPTY = memoryview(b"")
LARGE = limits.arena_threshold_bytes


@pytest.fixture
def regions() -> Iterator[EngineRegions]:
    gc.collect()  # descriptors are counted here, and those that other tests left must not go meanwhile
    made = EngineRegions()
    yield made
    made.close()


@pytest.fixture
def file() -> Iterator[SharedFile]:
    with shared_file(bytes(range(200))) as made:
        yield made


def share(regions: EngineRegions, file: SharedFile, number: int = 1, nbytes: int = 0) -> None:
    regions.add(ShareCall(region=number, nbytes=nbytes or file.size, name="images"), os.dup(file.fd))


def share_arena(regions: EngineRegions, needed: int = 1) -> Arena:
    arena = Arena.make(needed, ArenaBudget())
    assert arena is not None
    regions.add(ShareCall(region=0, nbytes=arena.nbytes), os.dup(arena.fd))
    return arena


def head(name: str, nbytes: int, region: int = -1, offset: int = 0) -> TensorHead:
    return TensorHead(name, "UINT8", (nbytes,), nbytes, region, offset)


# --- memory that is handed over --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unsealed", "sealed against growing only", "file", "too small", "empty", "too large"])
def test_an_arena_must_stay_as_it_is(regions: EngineRegions, file: SharedFile, kind: str) -> None:
    fd = os.dup(file.fd) if kind == "file" else os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    if kind.startswith("sealed"):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    elif kind not in ("unsealed", "file"):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    size = {"too small": 4097, "empty": 0, "too large": limits.arena_bytes_max + 1}.get(kind, 4096)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="an arena"):
        regions.add(ShareCall(region=0, nbytes=size), fd)
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_region_comes_once_and_they_are_bounded(regions: EngineRegions, file: SharedFile) -> None:
    for number in range(1, limits.shared_regions_max + 1):
        share(regions, file, number)
    before = len(os.listdir("/proc/self/fd"))
    for number in (1, limits.shared_regions_max + 1, -2):
        with pytest.raises(ValueError, match="known already, or one too many"):
            share(regions, file, number)
    assert len(os.listdir("/proc/self/fd")) == before
    regions.close()
    assert len(os.listdir("/proc/self/fd")) == before - limits.shared_regions_max


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_tensors_come_from_everywhere_in_one_call(regions: EngineRegions, file: SharedFile) -> None:
    share(regions, file)
    arena = share_arena(regions)
    arena.put([b"arena"], lay_out([5]))
    heads = (head("a", 3), head("b", 2, 1, 7), head("c", 5, 0, 0), head("d", 2), head("e", 4, 1, 100))
    tensors = regions.tensors(heads, memoryview(b"abcde"))
    assert [bytes(t.data) for t in tensors] == [b"abc", bytes((7, 8)), b"arena", b"de", bytes((100, 101, 102, 103))]


def test_what_lies_in_the_arena_is_not_copied_and_cannot_be_written(regions: EngineRegions) -> None:
    arena = share_arena(regions)
    arena.put([b"first"], lay_out([5]))
    (tensor,) = regions.tensors((head("x", 5, 0),), EMPTY)
    arena.put([b"later"], lay_out([5]))
    assert bytes(tensor.data) == b"later"
    assert isinstance(tensor.data, memoryview)
    assert tensor.data.readonly


def test_an_arena_lives_as_long_as_something_computes_on_it(regions: EngineRegions) -> None:
    share_arena(regions).put([b"first"], lay_out([5]))
    arena = share_arena(regions)
    arena.put([b"alive"], lay_out([5]))
    (tensor,) = regions.tensors((head("x", 5, 0),), EMPTY)
    arena.close()
    regions.close()
    assert bytes(tensor.data) == b"alive"


def test_a_client_s_tensor_is_a_copy_in_memory_that_is_used_again(regions: EngineRegions, file: SharedFile) -> None:
    share(regions, file)
    (first,) = regions.tensors((head("x", 2, 1),), EMPTY)
    file.write(b"zz")
    assert bytes(first.data) == bytes((0, 1))
    (second,) = regions.tensors((head("x", 2, 1),), EMPTY)
    assert bytes(second.data) == b"zz"
    assert bytes(first.data) == b"zz"


@pytest.mark.parametrize(
    ("heads", "body"),
    [
        ((head("x", 5, 0),), b""),  # no arena
        ((head("x", 1, 2),), b""),  # no such region
        ((head("x", 201, 1),), b""),
        ((head("x", 1, 1, 200),), b""),
        ((head("x", 1, 1, -1),), b""),
        ((head("x", -1, 1, 5),), b""),
        ((head("x", -1),), b""),
        ((head("x", 2**62, 1),), b""),
        ((head("x", 2), head("y", 2, 1)), b"abc"),
    ],
)
def test_places_that_no_front_end_names(
    regions: EngineRegions, file: SharedFile, heads: tuple[TensorHead, ...], body: bytes
) -> None:
    share(regions, file)
    with pytest.raises(ValueError):  # noqa: PT011 - which of them does not matter: the connection is closed
        regions.tensors(heads, memoryview(body))


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 1 << 20), (1 << 20, 1), ((1 << 20) - 1, 2), (-1, 1), (-1, 0)])
def test_places_outside_the_arena(regions: EngineRegions, offset: int, nbytes: int) -> None:
    share_arena(regions)
    regions.tensors((head("x", 1 << 20, 0, 0),), EMPTY)
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        regions.tensors((head("x", nbytes + 1, 0, offset),), EMPTY)


@pytest.mark.parametrize("left", [0, 50, 109])
def test_a_region_that_shrinks_costs_only_the_call(regions: EngineRegions, file: SharedFile, left: int) -> None:
    share(regions, file)
    file.shrink(left)
    with pytest.raises(FailedPrecondition, match=r"input 'x'.*'images', which has shrunk"):
        regions.tensors((head("x", 10, 1, 100),), EMPTY)
    file.write(bytes(range(200)))
    assert bytes(regions.tensors((head("x", 10, 1, 100),), EMPTY)[0].data) == bytes(range(100, 110))


# --- outputs ---------------------------------------------------------------------------------------------------------


def answer(*outputs: tuple[str, bytes]) -> tuple[InferDone, list[bytes]]:
    return InferDone(tuple(head(n, len(d)) for n, d in outputs)), [d for _, d in outputs]


def test_large_outputs_go_behind_the_inputs(regions: EngineRegions) -> None:
    arena = share_arena(regions)
    call = InferCall(tensors=(head("x", 100, 0, 0), head("y", 3, 0, 128)), region_answer=True)
    placement = regions.placement(call)
    assert placement is not None
    done, rest = placement.apply(*answer(("p", b"p" * LARGE), ("q", b"q" * 5)))
    assert list(rest) == []
    assert [(h.region, h.offset) for h in done.tensors] == [(0, 192), (0, 192 + LARGE)]
    assert bytes(arena.read(192, 192 + LARGE + 5)) == b"p" * LARGE + b"q" * 5


@pytest.mark.parametrize("size", [1, LARGE - 1, 1 << 20])
def test_small_outputs_and_those_without_room_go_into_the_body(regions: EngineRegions, size: int) -> None:
    share_arena(regions)
    placement = regions.placement(InferCall(tensors=(head("x", 100, 0, 0),), region_answer=True))
    assert placement is not None
    done, rest = placement.apply(*answer(("p", bytes(size))))
    assert [len(b) for b in rest] == [size]
    assert done.tensors == (head("p", size),)


def test_outputs_in_regions_in_any_order(regions: EngineRegions, file: SharedFile) -> None:
    share(regions, file)
    call = InferCall(outputs=(OutputWanted("q"), OutputWanted("p", region=1, offset=50, room_bytes=10)))
    placement = regions.placement(call)
    assert placement is not None
    regions.open(call, EMPTY)
    assert call.outputs == (OutputWanted("q"), OutputWanted("p"))
    done, rest = placement.apply(*answer(("q", b"body"), ("p", b"region")))
    assert [bytes(b) for b in rest] == [b"body"]
    assert done.tensors == (head("q", 4), head("p", 6, 1, 50))
    assert file.read(8, 49) == bytes((49,)) + b"region" + bytes((56,))


def test_an_output_that_has_no_room_and_none_is_written(regions: EngineRegions, file: SharedFile) -> None:
    share(regions, file)
    wanted = tuple(OutputWanted(n, region=1, offset=o, room_bytes=4) for n, o in (("p", 0), ("q", 100)))
    placement = regions.placement(InferCall(outputs=wanted))
    assert placement is not None
    with pytest.raises(InvalidArgument, match=r"output 'q' has 5 bytes, the request gives it 4 .* region 'images'"):
        placement.apply(*answer(("p", b"abcd"), ("q", b"abcde")))
    assert file.read(4) == bytes(range(4))


def test_a_file_that_shrank_is_not_grown_again(regions: EngineRegions, file: SharedFile) -> None:
    share(regions, file)
    placement = regions.placement(InferCall(outputs=(OutputWanted("p", region=1, offset=100, room_bytes=10),)))
    assert placement is not None
    file.shrink(105)
    with pytest.raises(FailedPrecondition, match=r"output 'p'.*'images', which has shrunk"):
        placement.apply(*answer(("p", b"0123456789")))
    assert file.size == 105


def test_no_memory_left_for_an_output(
    regions: EngineRegions, file: SharedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    share(regions, file)
    placement = regions.placement(InferCall(outputs=(OutputWanted("p", region=1, offset=0, room_bytes=10),)))
    assert placement is not None
    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(ResourceExhausted, match="/dev/shm is full"):
        placement.apply(*answer(("p", b"0123456789")))


@pytest.mark.parametrize(
    "place",
    [
        OutputWanted("p", region=2, room_bytes=1),
        OutputWanted("p", region=1, offset=199, room_bytes=2),
        OutputWanted("p", region=1, offset=-1, room_bytes=2),
        OutputWanted("p", region=1, offset=1, room_bytes=-1),
        OutputWanted("p", region=1, offset=2**62, room_bytes=2**62),
    ],
)
def test_output_places_that_no_front_end_names(regions: EngineRegions, file: SharedFile, place: OutputWanted) -> None:
    share(regions, file)
    with pytest.raises(ValueError, match="a place outside region"):
        regions.placement(InferCall(outputs=(place,)))


def test_a_call_that_asks_for_nothing_of_this_has_no_placement(regions: EngineRegions, file: SharedFile) -> None:
    share(regions, file)
    assert regions.placement(InferCall(outputs=(OutputWanted("p"),), region_answer=True)) is None
