"""Where an ONNX file says that more of its tensors lie: read out of the protobuf before ONNX Runtime may follow it.

A walk over the wire format (protobuf.dev/programming-guides/encoding) by the tables below: every place where
onnx.proto can hold a TensorProto is visited, everything else is skipped by its length. The file is mapped, not read:
100 MB of 1,000 weights and 5,000 nodes take 50 ms, a forest with a million branches (23 MB) a tenth of a second.
"""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance import limits
from appliance.engine.model_files import open_file
from appliance.errors import InvalidArgument

# Message -> field number -> message of that field, from onnx.proto; only paths that lead to a TensorProto.
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
    "Entry": {},
}
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
# Lists of an attribute are not packed (proto2): a decision forest has millions of fields. A pattern for each kind, by
# its tag, steps over up to 10,000 of them at once, in C: floats, ints, and the strings that say how trees branch.
_RUNS = {
    0x3D: re.compile(rb"(?:\x3d[\x00-\xff]{4}){1,10000}"),
    0x40: re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f]){1,10000}"),
    0x4A: re.compile(rb"(?:\x4a(?:\x04LEAF|\x0aBRANCH_(?:LEQ|GTE|NEQ)|\x09BRANCH_(?:LT|GT|EQ))){1,10000}"),
}


class ExternalData(msgspec.Struct, frozen=True):
    """One tensor's ``external_data``: a path relative to the ONNX file, and which of its bytes."""

    location: str
    offset: int = 0
    length: int = 0


def external_data(path: Path, name: str) -> list[ExternalData]:
    """The external data of every tensor of the ONNX file, in no particular order, each distinct one once.

    Raises InvalidArgument MODEL_CORRUPT when the file is no well-formed protobuf, MODEL_FILE when it can't be opened.
    """
    with open_file(path, name) as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise corrupt(name, "it is empty") from None
    with data:
        return list(dict.fromkeys(_walk(data, name)))


def corrupt(name: str, what: str) -> InvalidArgument:
    """The error for a file that isn't what it should be."""
    return InvalidArgument(
        f"{name!r} is damaged or not an ONNX model: {what}; copy or export it again", reason="MODEL_CORRUPT"
    )


def _walk(data: mmap.mmap, name: str) -> Iterator[ExternalData]:
    """Depth first, with a stack of our own: (message, end of it), the innermost last."""
    stack: list[tuple[str, int]] = [("Model", len(data))]
    entries: dict[str, str] = {}
    key = value = ""
    at, seen_graph = 0, False
    while stack:
        message, end = stack[-1]
        if at == end:
            stack.pop()
            if message == "Entry":
                entries[key] = value
                key = value = ""
            elif message == "Tensor" and entries:
                yield _entry(entries, name)
                entries = {}
            continue
        start = at
        tag, at = _varint(data, at, end, name)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise corrupt(name, f"a field number of 0 at byte {start}")
        if message == "Attribute" and tag in _RUNS and (match := _RUNS[tag].match(data, start, end)):
            at = match.end()
            continue
        if wire != 2:
            at = _skip(data, at, end, wire, name)
            continue
        length, at = _varint(data, at, end, name)
        if at + length > end:
            raise corrupt(name, f"a field at byte {start} claims {length} bytes, {end - at} are left; it is cut short")
        child = _CHILDREN[message].get(field)
        if child is not None:
            seen_graph = seen_graph or child == "Graph"
            if len(stack) >= limits.onnx_depth_max:
                raise corrupt(name, f"messages nested deeper than {limits.onnx_depth_max}")
            stack.append((child, at + length))
            continue
        if message == "Entry" and field in (_ENTRY_KEY, _ENTRY_VALUE):
            text = _text(data, at, length, name)
            key, value = (text, value) if field == _ENTRY_KEY else (key, text)
        at += length
    if not seen_graph:
        raise corrupt(name, "it holds no graph")


def _entry(entries: dict[str, str], name: str) -> ExternalData:
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key, "0")
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise corrupt(name, f"external data with a {key} that is no number")
        numbers[key] = int(text)
    return ExternalData(entries.get("location", ""), **numbers)


def _text(data: mmap.mmap, at: int, length: int, name: str) -> str:
    if length > limits.external_location_bytes_max:
        raise corrupt(name, f"an external data entry of {length} bytes")
    try:
        return data[at : at + length].decode()
    except UnicodeDecodeError:
        raise corrupt(name, "an external data entry that is not UTF-8") from None


def _varint(data: mmap.mmap, at: int, end: int, name: str) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise corrupt(name, f"it ends inside a number at byte {at}")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise corrupt(name, f"a number of more than 64 bits at byte {at}")


def _skip(data: mmap.mmap, at: int, end: int, wire: int, name: str) -> int:
    """Past a field that is not length-delimited: varint, 8 bytes, or 4 bytes."""
    if wire == 0:
        return _varint(data, at, end, name)[1]
    if wire not in (1, 5):
        raise corrupt(name, f"an unknown wire type {wire} at byte {at}")
    at += 8 if wire == 1 else 4
    if at > end:
        raise corrupt(name, f"it ends inside a number at byte {end}")
    return at
