"""Reads a GGUF file's header and refuses what lies, before the native loader sees the file.

llama.cpp allocates what a header claims and asserts on much of the rest; a model file is untrusted input. Only the
header is read (through a memory map), every count is held against the bytes that are there, and nothing is allocated
from a claim. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

import math
import mmap
import struct
from pathlib import Path

import msgspec

from appliance import limits
from appliance.errors import InvalidArgument

MAGIC = b"GGUF"
_TOKENS_KEY = "tokenizer.ggml.tokens"
VERSIONS = (2, 3)
FLOAT32, STRING, _ARRAY = 6, 8, 9
_SCALAR_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_SCALARS = {number: struct.Struct(text) for number, text in _SCALAR_FORMATS.items()}
_u32, _u64 = struct.Struct("<I"), struct.Struct("<Q")
# The least a key-value pair and a tensor's description can take in the file: so many can be there at most.
_PAIR_BYTES_MIN = 8 + 1 + 4 + 1
_TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8

# ggml type -> (elements of a block, bytes of a block). test_gguf_check.py holds it against the library itself.
TENSOR_TYPES: dict[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip


class GgufTensor(msgspec.Struct, frozen=True):
    """One tensor: its shape as GGUF writes it (the length of a row first), and its ggml type."""

    shape: tuple[int, ...]
    kind: int


class GgufHeader(msgspec.Struct, frozen=True):
    """What the header says: scalars and strings by key (arrays as their length), and the tensors.

    ``kinds``: the value type of each key. llama.cpp asserts some of them instead of refusing the file.
    """

    version: int
    tensors: int
    values: dict[str, bool | int | float | str]
    kinds: dict[str, int] = {}
    layout: dict[str, GgufTensor] = {}


def corrupt(message: str) -> InvalidArgument:
    """The refusal of a model file, with what is wrong with it."""
    return InvalidArgument(f"not a usable GGUF file: {message}", reason="MODEL_CORRUPT")


def check_gguf(path: Path) -> GgufHeader:
    """Checks the whole header of the file at ``path``; raises InvalidArgument (MODEL_CORRUPT) with what lies."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size < 4 or file.read(4) != MAGIC:
                raise corrupt(f'it begins with other bytes than "GGUF" ({size:,} bytes)')
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(data, size).header()
    except OSError as error:
        raise InvalidArgument(
            f"the model file cannot be read: {error.strerror}", reason="MODEL_FILE_UNREADABLE"
        ) from None


class _Reader:
    """A cursor over the header; every read is held against the file's size first."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self._data = data
        self._size = size
        self._at = 4
        self._kinds: dict[str, int] = {}
        self._layout: dict[str, GgufTensor] = {}

    def header(self) -> GgufHeader:
        version = self._number(_u32, "version")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            hint = "big-endian" if swapped in VERSIONS else "known are 2 and 3"
            raise corrupt(f"version {version} ({hint})")
        tensors = self._count("tensors", _TENSOR_BYTES_MIN, limits.gguf_tensors_max)
        pairs = self._count("key-value pairs", _PAIR_BYTES_MIN, limits.gguf_keys_max)
        values = self._pairs(pairs)
        self._check_tensors(tensors, self._alignment(values))
        _check_values(values)
        return GgufHeader(version, tensors, values, self._kinds, self._layout)

    def _need(self, count: int, what: str) -> int:
        start = self._at
        if count > self._size - start:
            raise corrupt(f"{what} at byte {start:,} takes {count:,} bytes, the file ends at {self._size:,}")
        self._at = start + count
        return start

    def _number(self, kind: struct.Struct, what: str) -> int:
        value: int = kind.unpack_from(self._data, self._need(kind.size, what))[0]
        return value

    def _count(self, what: str, bytes_each: int, most: int) -> int:
        count = self._number(_u64, f"the number of {what}")
        if count * bytes_each > self._size:
            raise corrupt(f"header claims {count:,} {what}, the file of {self._size:,} bytes cannot hold them")
        if count > most:
            raise corrupt(f"header claims {count:,} {what}, at most {most:,} are allowed")
        return count

    def _text(self, what: str, most: int | None = None) -> bytes:
        length = self._number(_u64, f"the length of {what}")
        if most is not None and length > most:
            raise corrupt(f"{what} claims {length:,} bytes, at most {most:,} are allowed")
        start = self._need(length, what)
        return self._data[start : start + length]

    def _name(self, what: str, most: int) -> str:
        raw = self._text(what, most)
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise corrupt(f"{what} is not UTF-8") from None
        if not name or not name.isprintable():
            raise corrupt(f"{what} is empty or holds control characters")
        return name

    def _pairs(self, count: int) -> dict[str, bool | int | float | str]:
        values: dict[str, bool | int | float | str] = {}
        for number in range(count):
            key = self._name(f"key {number}", limits.gguf_key_bytes_max)
            if key in values:
                raise corrupt(f'key "{key[:80]}" stands twice')
            self._kinds[key], values[key] = self._value(key[:80])
        return values

    def _value(self, key: str) -> tuple[int, bool | int | float | str]:
        kind = self._number(_u32, f'the type of "{key}"')
        if kind == STRING:
            return kind, self._text(f'the value of "{key}"', limits.gguf_string_bytes_max).decode(errors="replace")
        if kind == _ARRAY:
            return kind, self._array(key)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise corrupt(f'"{key}" has the unknown value type {kind}')
        return kind, self._number(scalar, f'the value of "{key}"')

    def _array(self, key: str) -> int:
        kind = self._number(_u32, f'the element type of "{key}"')
        scalar = _SCALARS.get(kind)
        if scalar is None and kind != STRING:
            raise corrupt(f'"{key}" is an array of the unsupported type {kind}')
        count = self._number(_u64, f'the length of "{key}"')
        each = scalar.size if scalar else 8
        if count * each > self._size - self._at:
            raise corrupt(f'"{key}" claims {count:,} elements, the file of {self._size:,} bytes cannot hold them')
        if count > limits.gguf_array_elements_max:
            raise corrupt(f'"{key}" claims {count:,} elements, at most {limits.gguf_array_elements_max:,} are allowed')
        if scalar:
            self._need(count * each, f'the array "{key}"')
        else:
            self._skip_strings(key, count)
        return count

    def _skip_strings(self, key: str, count: int) -> None:
        # A vocabulary is some 100,000 strings: the loop is bare so that the check stays below a tenth of a second.
        unpack, data, size, at = _u64.unpack_from, self._data, self._size, self._at
        # llama.cpp asserts that no two tokens are the same text (it gives empty ones a name of their own).
        seen: set[bytes] | None = set() if key == _TOKENS_KEY else None
        for number in range(count):
            if size - at < 8 or unpack(data, at)[0] > size - at - 8:
                raise corrupt(f'element {number:,} of {count:,} of "{key}" ends after the file does ({size:,} bytes)')
            start, at = at + 8, at + 8 + unpack(data, at)[0]
            if seen is not None and at > start:
                token = data[start:at]
                if token in seen:
                    raise corrupt(f"token {number:,} has the same text as one before it")
                seen.add(token)
        self._at = at

    def _alignment(self, values: dict[str, bool | int | float | str]) -> int:
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= limits.gguf_alignment_max:
            raise corrupt(f'"general.alignment" is {alignment!r}')
        if alignment & (alignment - 1):
            raise corrupt(f'"general.alignment" is {alignment}, it must be a power of two')
        return alignment

    def _check_tensors(self, count: int, alignment: int) -> None:
        spans: list[tuple[int, int, str]] = []
        for number in range(count):
            name = self._name(f"the name of tensor {number}", limits.gguf_tensor_name_bytes_max)
            if name in self._layout:
                raise corrupt(f'tensor "{name}" stands twice')
            nbytes = self._tensor_bytes(name)
            offset = self._number(_u64, f'the offset of tensor "{name}"')
            if offset % alignment:
                raise corrupt(f'tensor "{name}" begins at {offset:,}, which is not a multiple of {alignment}')
            spans.append((offset, nbytes, name))
        if spans:
            self._check_spans(spans, -(-self._at // alignment) * alignment)

    def _tensor_bytes(self, name: str) -> int:
        rank = self._number(_u32, f'the rank of tensor "{name}"')
        if rank > limits.gguf_dims_max:
            raise corrupt(f'tensor "{name}" claims {rank:,} dimensions, at most {limits.gguf_dims_max} are allowed')
        shape = [self._number(_u64, f'the shape of tensor "{name}"') for _ in range(rank)]
        kind = self._number(_u32, f'the type of tensor "{name}"')
        if kind not in TENSOR_TYPES:
            raise corrupt(f'tensor "{name}" has the unknown type {kind}')
        block, block_bytes = TENSOR_TYPES[kind]
        if 0 in shape:
            raise corrupt(f'tensor "{name}" has an empty dimension')
        if shape and shape[0] % block:
            raise corrupt(f'tensor "{name}": rows of {shape[0]:,} elements are no multiple of the block of {block}')
        self._layout[name] = GgufTensor(tuple(shape), kind)
        elements = 1
        for axis in shape:
            elements *= axis
        return elements // block * block_bytes

    def _check_spans(self, spans: list[tuple[int, int, str]], data_start: int) -> None:
        end, before = 0, ""
        for offset, nbytes, name in sorted(spans):
            if offset < end:
                raise corrupt(f'tensor "{name}" begins at {offset:,}, inside of tensor "{before}"')
            end, before = offset + nbytes, name
            if data_start + end > self._size:
                raise corrupt(
                    f'tensor "{name}" takes bytes {data_start + offset:,} to {data_start + end:,}, '
                    f"the file ends at {self._size:,} (is the download complete?)"
                )


def _check_values(values: dict[str, bool | int | float | str]) -> None:
    """Values that llama.cpp asserts on instead of refusing them (found by changing bytes of a good file)."""
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise corrupt(f'"{key[:80]}" is {value}')
    layers_key = f"{values.get('general.architecture', '')}.block_count"
    layers = values.get(layers_key)
    if layers is not None and not (isinstance(layers, int) and 0 < layers <= limits.gguf_layers_max):
        raise corrupt(f'"{layers_key[:80]}" is {layers!r}, allowed: 1 to {limits.gguf_layers_max}')
