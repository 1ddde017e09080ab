"""Tensors in frames: their heads in the frame's header, their bytes behind it in the same order."""

import msgspec

from appliance.types import Tensor


class TensorHead(msgspec.Struct, frozen=True, array_like=True):
    """A tensor without its bytes; ``nbytes`` of the frame's body are its own, or of the connection's ``region``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    nbytes: int
    region: int = -1
    offset: int = 0


def heads(tensors: list[Tensor]) -> tuple[TensorHead, ...]:
    """The heads of ``tensors``, whose ``data`` must then follow in this order."""
    return tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in tensors)


def split_body(tensors: tuple[TensorHead, ...], body: memoryview) -> list[Tensor]:
    """Gives each tensor its slice of ``body`` without a copy.

    Raises ValueError when the heads claim more or less than there is.
    """
    result, start = [], 0
    for head in tensors:
        end = start + head.nbytes
        result.append(Tensor(head.name, head.datatype, head.shape, body[start:end]))
        start = end
    if start != len(body):
        raise ValueError(f"tensor heads claim {start} bytes, the frame carries {len(body)}")
    return result
