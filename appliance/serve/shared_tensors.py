"""Tensors of one call that lie in clients' shared memory: where each is, and whether they get into each other's way."""

from collections.abc import Callable
from typing import Any, NamedTuple

from appliance import limits
from appliance.errors import InvalidArgument, ResourceExhausted, Unimplemented
from appliance.tensor_heads import TensorHead
from appliance.worker.regions import Identity, SharedRegion


class Place(NamedTuple):
    """What a tensor's parameters say: ``nbytes`` at ``offset`` of the region ``region``."""

    region: str
    offset: int
    nbytes: int


class Span(NamedTuple):
    """The bytes from ``start`` to ``end`` of a file; ``what`` is the tensor there."""

    file: Identity
    start: int
    end: int
    what: str
    output: bool


def refused(what: str) -> Unimplemented:
    """The answer to a tensor in shared memory where there is none to be had."""
    return Unimplemented(
        f"{what} is to be in shared memory, which is only for models of tensors, and only where the daemon's configuration "
        "says server.shared_memory = true: send the tensor in the request",
        reason="SHARED_MEMORY",
    )


def check_overlaps(spans: list[Span]) -> None:
    """Raises InvalidArgument when an output shares a byte with an input or another output. Inputs may share theirs.

    Of files, not of regions: two registrations may well be of the same bytes.
    """
    file: Identity | None = None
    furthest: dict[bool, Span] = {}
    for span in sorted(spans):
        if span.file != file:
            file, furthest = span.file, {}
        for output, other in furthest.items():
            if (output or span.output) and span.start < other.end:
                raise InvalidArgument(
                    f"{other.what} and {span.what} of this request overlap in shared memory: give outputs bytes of their "
                    "own",
                    reason="SHARED_MEMORY_OVERLAP",
                )
        if span.output not in furthest or furthest[span.output].end < span.end:
            furthest[span.output] = span


class CallRegions:
    """Collects the regions that one call names; ``find`` gives a region by name, or raises."""

    __slots__ = ("_find", "_nbytes", "_regions", "_spans")

    def __init__(self, find: Callable[[str], SharedRegion]) -> None:
        self._find = find
        self._nbytes = 0
        self._regions: dict[int, SharedRegion] = {}
        self._spans: list[Span] = []

    @property
    def used(self) -> tuple[SharedRegion, ...]:
        """For Lease.exchange."""
        return tuple(self._regions.values())

    def put(self, what: str, place: Place, *, output: bool = False) -> tuple[int, int]:
        """Region number and offset in the file for ``place``, which ``what`` (such as "input 'x'") is to have.

        Raises what SharedRegion.file_offset and the finder raise, and ResourceExhausted when a call has too much.
        """
        region = self._find(place.region)
        at = region.file_offset(what, place.offset, place.nbytes)
        self._nbytes += place.nbytes
        if self._nbytes > limits.shared_call_bytes_max:
            raise ResourceExhausted(
                f"the tensors of this request have more than {limits.shared_call_bytes_max} bytes in shared memory",
                reason="SHARED_MEMORY_SIZE",
            )
        self._regions[region.number] = region
        self._spans.append(Span(region.identity, at, at + place.nbytes, what, output))
        return region.number, at

    def check(self) -> None:
        """When all tensors have been put: raises InvalidArgument where they overlap."""
        check_overlaps(self._spans)

    def describe(self, head: TensorHead, parameters: Any) -> None:
        """Writes into an output's ``parameters`` (protobuf's) where it is, in the words of the request."""
        region = self._regions[head.region]
        parameters["shared_memory_region"].string_param = region.name
        parameters["shared_memory_byte_size"].int64_param = head.nbytes
        if head.offset > region.offset:
            parameters["shared_memory_offset"].int64_param = head.offset - region.offset
