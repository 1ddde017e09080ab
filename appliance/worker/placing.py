"""How the tensors of a call get to the engine: through the socket, the connection's arena, or regions of the client."""

from collections.abc import Iterable, Sequence

import msgspec

from appliance import frames, limits
from appliance.answers import InferDone
from appliance.calls import InferCall, ShareCall
from appliance.errors import InternalError
from appliance.tensor_heads import TensorHead
from appliance.types import Buffer
from appliance.worker.arena import Arena, ArenaBudget, Layout, align, lay_out
from appliance.worker.connection import Connection, Expectation
from appliance.worker.descriptors import send_with
from appliance.worker.regions import SharedRegion

_budget = ArenaBudget()
_NOTHING = Layout((), 0)


def worth_it(buffers: Sequence[Buffer], regions: Sequence[SharedRegion], expectation: Expectation) -> bool:
    """Whether a call is large, has a large answer, or names regions: ``send`` is for it."""
    threshold = limits.arena_threshold_bytes
    return bool(regions) or sum(map(len, buffers)) >= threshold or expectation.nbytes >= threshold


def send(
    connection: Connection,
    call: InferCall,
    buffers: Sequence[Buffer],
    regions: Iterable[SharedRegion],
    expectation: Expectation,
    budget: ArenaBudget = _budget,
) -> None:
    """Sends ``call`` whole, by the way that is cheapest for its size; raises OSError when the engine is gone.

    ``buffers`` has one for each tensor; of those in ``regions`` it is empty.
    """
    for region in regions:
        share(connection, region)
    sizes = [len(buffer) for buffer in buffers]
    total = sum(sizes)
    if max(total, expectation.nbytes) < limits.arena_threshold_bytes:
        frames.send(connection.sock, call, buffers)
        return
    # Small inputs stay in the frame, also where a large answer is expected.
    layout = lay_out(sizes) if total >= limits.arena_threshold_bytes else _NOTHING
    arena = arena_of(connection, layout.end, align(layout.end) + expectation.nbytes, budget)
    if arena is None:
        frames.send(connection.sock, call, buffers)
        return
    call = msgspec.structs.replace(call, region_answer=True)
    if layout is not _NOTHING:
        arena.put(buffers, layout)
        call.tensors = placed(call.tensors, layout)
        buffers = ()
    frames.send(connection.sock, call, buffers)


def placed(heads: Sequence[TensorHead], layout: Layout) -> tuple[TensorHead, ...]:
    """The heads of tensors that lie in region 0; those of other regions stay where they are."""
    return tuple(
        TensorHead(h.name, h.datatype, h.shape, h.nbytes, 0, offset) if h.region < 0 else h
        for h, offset in zip(heads, layout.offsets, strict=True)
    )


def arena_of(connection: Connection, needed: int, wanted: int, budget: ArenaBudget) -> Arena | None:
    """The connection's arena, known to the engine, of ``wanted`` bytes if possible; None when not even ``needed``."""
    arena = connection.arena
    if arena is None or arena.nbytes < wanted:
        larger = Arena.make(wanted, budget)
        if larger is not None:
            if arena is not None:
                arena.close()
            connection.arena = arena = larger
        elif arena is None or arena.nbytes < needed:
            return None
    if arena.fd >= 0:
        send_with(connection.sock, ShareCall(region=0, nbytes=arena.nbytes), arena.fd)
        arena.handed_over()
    return arena


def share(connection: Connection, region: SharedRegion) -> None:
    """Tells the engine of a region, unless it knows it by this connection."""
    if region.number not in connection.regions:
        end = region.offset + region.nbytes
        send_with(connection.sock, ShareCall(region=region.number, nbytes=end, name=region.name), region.fd)
        connection.regions[region.number] = region


def answer_body(connection: Connection, answer: InferDone, body: memoryview) -> memoryview:
    """The outputs' bytes one behind the other, wherever they came: not copied.

    Raises InternalError when the engine names a place that it was not given.
    """
    heads = [head for head in answer.tensors if head.region == 0]
    if not heads:
        return body
    arena, start = connection.arena, heads[0].offset
    end = start
    for head in heads:
        if head.offset != end or head.nbytes < 0:
            arena = None
        end += head.nbytes
    try:
        if arena is None or len(body):
            raise ValueError("no arena, or outputs with gaps")
        return arena.read(start, end)
    except ValueError as error:
        raise InternalError("the engine gave an answer that cannot be read", reason="ENGINE_ANSWER") from error
