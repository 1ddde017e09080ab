"""BYTES tensors on the wire: each element is a little-endian u32 length and that many bytes, row-major."""

from collections.abc import Iterable

from appliance.types import Buffer


class BadBytesTensor(ValueError):
    """What is wrong with the bytes, for the caller's message."""


def check(data: Buffer, count: int) -> None:
    """Raises BadBytesTensor unless ``data`` holds exactly ``count`` elements and nothing else."""
    size = len(data)
    from_bytes = int.from_bytes
    position = seen = 0
    while position < size:
        if seen == count:
            raise BadBytesTensor(f"{size - position} bytes come after the last of {count} elements")
        start = position + 4
        if start > size:
            raise BadBytesTensor(f"element {seen} ends in the middle of its length")
        position = start + from_bytes(data[position:start], "little")
        seen += 1
    if position != size:
        raise BadBytesTensor(f"the length of element {seen - 1} reaches {position - size} bytes beyond the end")
    if seen != count:
        raise BadBytesTensor(f"there are {seen} elements, the shape says {count}")


def pack(elements: Iterable[bytes]) -> bytes:
    """The wire form of ``elements``."""
    pieces: list[bytes] = []
    for element in elements:
        pieces.append(len(element).to_bytes(4, "little"))
        pieces.append(element)
    return b"".join(pieces)


def unpack(data: Buffer) -> list[bytes]:
    """The elements in ``data``, which ``check`` has passed."""
    view = memoryview(data)
    elements, position = [], 0
    while position < len(view):
        start = position + 4
        position = start + int.from_bytes(view[position:start], "little")
        elements.append(bytes(view[start:position]))
    return elements
