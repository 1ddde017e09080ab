"""The engine's end of the memory that a front-end shares with it over one connection: the arena, and clients' regions.

The arena is mapped: it is sealed, nobody can take its pages away. A client's file is only read and written by system
calls, since a client may shrink it at any moment, and an access through a mapping would then end the engine (SIGBUS).
"""

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import NamedTuple

from appliance import limits
from appliance.answers import InferDone
from appliance.calls import InferCall, OutputWanted, ShareCall
from appliance.errors import ApplianceError, InvalidArgument, ResourceExhausted, Unavailable
from appliance.tensor_heads import TensorHead
from appliance.types import Buffer, Tensor
from appliance.worker.arena import align, lay_out
from appliance.worker.regions import shrunk


class _Region(NamedTuple):
    """A client's: its first ``nbytes`` may be used."""

    fd: int
    nbytes: int
    name: str


class EngineRegions:
    """What one connection has. ValueErrors here mean that the front-end is wrong, ApplianceErrors that its client is."""

    __slots__ = ("_arena", "_regions", "_scratch")

    def __init__(self) -> None:
        self._arena: memoryview | None = None
        self._regions: dict[int, _Region] = {}
        # The copies of a call's inputs, kept for the next call: fresh memory costs a fault for each page.
        self._scratch: memoryview | None = None

    def add(self, share: ShareCall, fd: int) -> None:
        """Takes ``fd`` over. Raises ValueError for memory that must not be used."""
        try:
            if share.region == 0:
                self._arena = _mapped(fd, share.nbytes)
                return
            if share.region < 0 or share.region in self._regions or len(self._regions) >= limits.shared_regions_max:
                raise ValueError(f"region {share.region} is known already, or one too many")
            self._regions[share.region] = _Region(fd, share.nbytes, share.name)
            fd = -1
        finally:
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        """Lets go of everything; what still computes on the arena keeps it until it is done."""
        for region in self._regions.values():
            os.close(region.fd)
        self._regions = {}
        self._arena = self._scratch = None

    # --- inputs ------------------------------------------------------------------------------------------------------

    def open(self, call: InferCall, body: memoryview) -> list[Tensor]:
        """The tensors of a call. After this it says nothing of their places: engines need not know of any.

        Raises what ``tensors`` raises.
        """
        tensors = self.tensors(call.tensors, body)
        call.tensors = tuple(_moved(head, -1, 0) for head in call.tensors)
        call.outputs = tuple(OutputWanted(output.name, output.classification) for output in call.outputs)
        return tensors

    def tensors(self, heads: Sequence[TensorHead], body: memoryview) -> list[Tensor]:
        """Tensors wherever they lie: in ``body``, in the arena (not copied), in a region (copied once).

        Raises FailedPrecondition for a region that has shrunk, ValueError when heads claim what isn't there.
        """
        scratch = self._room([head for head in heads if head.region > 0])
        result, in_body, in_scratch = [], 0, 0
        for head in heads:
            if head.nbytes < 0 or head.offset < 0:
                raise ValueError("a tensor with a negative place")
            if head.region < 0:
                data = body[in_body : in_body + head.nbytes]
                in_body += head.nbytes
            elif head.region == 0:
                data = self._in_arena(head)
            else:
                in_scratch = align(in_scratch)
                data = scratch[in_scratch : in_scratch + head.nbytes]
                in_scratch += head.nbytes
                self._copy(head, data)
            result.append(Tensor(head.name, head.datatype, head.shape, data))
        if in_body != len(body):
            raise ValueError(f"tensor heads claim {in_body} bytes, the frame carries {len(body)}")
        return result

    def _in_arena(self, head: TensorHead) -> memoryview:
        arena = self._arena
        if arena is None or head.offset + head.nbytes > len(arena):
            raise ValueError("a tensor outside the arena")
        return arena[head.offset : head.offset + head.nbytes].toreadonly()

    def _room(self, heads: Sequence[TensorHead]) -> memoryview:
        """Memory for the copies of these tensors."""
        if not heads:
            return memoryview(b"")
        needed = lay_out([head.nbytes for head in heads]).end
        if needed > limits.shared_call_bytes_max:
            raise ValueError(f"{needed} bytes in regions")
        scratch = self._scratch
        if scratch is None or len(scratch) < needed:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            scratch = memoryview(mmap.mmap(-1, max(needed, limits.arena_step_bytes), flags=flags))
            self._scratch = scratch if needed <= limits.arena_bytes_max else None
        return scratch

    def _copy(self, head: TensorHead, target: memoryview) -> None:
        region = self._region(head.region, head.offset, head.nbytes)
        what, done = f"input '{head.name}'", 0
        while done < head.nbytes:
            try:
                count = os.preadv(region.fd, [target[done:]], head.offset + done)
            except OSError as error:
                raise _not_usable(what, region.name, error) from error
            if not count:
                raise shrunk(what, region.name)
            done += count

    def _region(self, number: int, offset: int, nbytes: int) -> _Region:
        region = self._regions.get(number)
        if region is None or offset < 0 or nbytes < 0 or offset + nbytes > region.nbytes:
            raise ValueError(f"a place outside region {number}")
        return region

    # --- outputs -----------------------------------------------------------------------------------------------------

    def placement(self, call: InferCall) -> "Placement | None":
        """Where the outputs of ``call`` are to go; None: into the answer's body. ValueError for what isn't there."""
        places = {output.name: output for output in call.outputs if output.region > 0}
        for place in places.values():
            self._region(place.region, place.offset, place.room_bytes)
        if call.region_answer and self._arena is not None:
            start = align(max((h.offset + h.nbytes for h in call.tensors if h.region == 0), default=0))
        elif places:
            start = -1
        else:
            return None
        return Placement(self, places, start)

    def write(self, place: OutputWanted, buffer: Buffer) -> None:
        """Copies an output into a client's region; FailedPrecondition when it has shrunk."""
        region, what = self._regions[place.region], f"output '{place.name}'"
        # Written behind its end, the file would grow again, which nobody has asked for.
        if os.fstat(region.fd).st_size < place.offset + len(buffer):
            raise shrunk(what, region.name)
        rest, at = memoryview(buffer), place.offset
        while rest:
            try:
                count = os.pwritev(region.fd, [rest], at)
            except OSError as error:
                raise _not_usable(what, region.name, error) from error
            rest, at = rest[count:], at + count

    def write_arena(self, start: int, buffers: Sequence[Buffer]) -> bool:
        """Copies outputs behind each other into the arena; False when they have no room there."""
        arena = self._arena
        if arena is None or start + sum(map(len, buffers)) > len(arena):
            return False
        for buffer in buffers:
            arena[start : start + len(buffer)] = buffer
            start += len(buffer)
        return True

    def name(self, number: int) -> str:
        """What the client calls a region."""
        return self._regions[number].name


class Placement:
    """Where the outputs of one call are to go: by name into clients' regions, else behind ``start`` in the arena."""

    __slots__ = ("_places", "_regions", "_start")

    def __init__(self, regions: EngineRegions, places: dict[str, OutputWanted], start: int) -> None:
        """``start`` -1: the arena is not to be used."""
        self._regions = regions
        self._places = places
        self._start = start

    def apply(self, answer: InferDone, buffers: Sequence[Buffer]) -> tuple[InferDone, Sequence[Buffer]]:
        """Puts the outputs where they belong: the answer that says so, and what is left for its body.

        Raises InvalidArgument when an output does not fit into the room that the client gave it, and then writes none;
        FailedPrecondition when a region has shrunk.
        """
        for head in answer.tensors:
            place = self._places.get(head.name)
            if place is not None and head.nbytes > place.room_bytes:
                raise InvalidArgument(
                    f"output '{head.name}' has {head.nbytes} bytes, the request gives it {place.room_bytes} in shared "
                    f"memory region '{self._regions.name(place.region)}'",
                    reason="SHARED_MEMORY_ROOM",
                )
        heads: list[TensorHead] = []
        rest: list[Buffer] = []
        for head, buffer in zip(answer.tensors, buffers, strict=True):
            place = self._places.get(head.name)
            if place is None:
                heads.append(head)
                rest.append(buffer)
            else:
                self._regions.write(place, buffer)
                heads.append(_moved(head, place.region, place.offset))
        large = self._start >= 0 and sum(map(len, rest)) >= limits.arena_threshold_bytes
        if large and self._regions.write_arena(self._start, rest):
            heads, rest = self._in_arena(heads), []
        answer.tensors = tuple(heads)
        return answer, rest

    def _in_arena(self, heads: Sequence[TensorHead]) -> list[TensorHead]:
        result, at = [], self._start
        for head in heads:
            if head.region < 0:
                result.append(_moved(head, 0, at))
                at += head.nbytes
            else:
                result.append(head)
        return result


def _moved(head: TensorHead, region: int, offset: int) -> TensorHead:
    return TensorHead(head.name, head.datatype, head.shape, head.nbytes, region, offset)


def _mapped(fd: int, nbytes: int) -> memoryview:
    """The arena that ``fd`` is; ValueError when it is not one that stays as it is."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ValueError("an arena must be a memfd") from error
    if not seals & fcntl.F_SEAL_SHRINK:
        raise ValueError("an arena must be sealed against shrinking")
    if not 0 < nbytes <= min(os.fstat(fd).st_size, limits.arena_bytes_max):
        raise ValueError(f"an arena of {nbytes} bytes")
    return memoryview(mmap.mmap(fd, nbytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE))


def _not_usable(what: str, region: str, error: OSError) -> ApplianceError:
    if error.errno == errno.ENOSPC:
        text = f"{what} found no memory in shared memory region '{region}': /dev/shm is full"
        return ResourceExhausted(text, reason="SHARED_MEMORY_FULL")
    return Unavailable(f"{what} could not be copied from or to shared memory region '{region}'", reason="SHARED_MEMORY")
