"""As much of protobuf's wire format as keeps large tensors from being copied: take one field's values out of a message.

A message is a row of (key, value); a key is a varint of field number and wire type, and a length-delimited value is a
varint length and its bytes (protobuf.dev/programming-guides/encoding). Whatever looks odd is left to protobuf itself.
"""

from typing import NamedTuple

from appliance import limits

_LENGTH_DELIMITED = 2


class Split(NamedTuple):
    """The values of the field, as views into the message, and the message without them."""

    taken: list[memoryview]
    rest: bytes


def length_prefix(field: int, size: int) -> bytes:
    """Key and length of a length-delimited value of ``field``."""
    out = bytearray(_varint(field << 3 | _LENGTH_DELIMITED))
    out += _varint(size)
    return bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def split(data: bytes, field: int) -> Split | None:
    """None when ``data`` is not just a row of whole, length-delimited values: then protobuf's parser must see it all.

    None as well when they are more than limits.split_fields_max: in C they cost a twentieth.
    """
    view = memoryview(data)
    taken: list[memoryview] = []
    kept: list[memoryview] = []
    size, position, kept_from, seen = len(data), 0, 0, 0
    wanted = field << 3 | _LENGTH_DELIMITED
    while position < size:
        seen += 1
        if seen > limits.split_fields_max:
            return None
        start = position
        key, position = _read_varint(data, position)
        if key & 7 != _LENGTH_DELIMITED:
            return None
        length, position = _read_varint(data, position)
        end = position + length
        if length < 0 or end > size:
            return None
        if key == wanted:
            kept.append(view[kept_from:start])
            taken.append(view[position:end])
            kept_from = end
        position = end
    kept.append(view[kept_from:])
    return Split(taken, b"".join(kept))


_FIXED_BYTES = {1: 8, 5: 4}
# Start and end of a group: what is inside is counted like the rest.
_GROUP = (3, 4)
_LONGEST_VARINT_BITS = 70


def has_countless_fields(data: bytes) -> bool:
    """Whether a message has more than limits.message_fields_max fields; False where it is none (protobuf will say)."""
    position, size, seen = 0, len(data), 0
    while position < size:
        seen += 1
        if seen > limits.message_fields_max:
            return True
        key, position = _read_varint(data, position)
        kind = key & 7
        if kind == 0:
            _, position = _read_varint(data, position, bits=_LONGEST_VARINT_BITS)
        elif kind == _LENGTH_DELIMITED:
            length, position = _read_varint(data, position)
            position += max(0, length)
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        elif kind not in _GROUP:
            break
    return False


def _read_varint(data: bytes, position: int, *, bits: int = 35) -> tuple[int, int]:
    """The varint at ``position`` and where it ends; -1 for one that is cut off or of more bits (five bytes have 35)."""
    value = shift = 0
    while position < len(data) and shift < bits:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return -1, len(data)
