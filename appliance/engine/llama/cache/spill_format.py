"""The file of one computed prefix: what it says of itself, and whether that is what is wanted. Pure.

    magic (8 bytes) | format version (u32) | SHA-256 of all that follows (32 bytes)
    | bytes of the header (u32) | bytes of the payload (u64) | header (MessagePack) | payload

Numbers are little-endian. The payload is llama.cpp's state of one sequence, which its reader trusts: nothing of it
gets there unless the digest is right, so that a damaged file costs a computation and not the process.
"""

import hashlib
import struct

import msgspec

from appliance import limits

MAGIC = b"IAPREFIX"
FORMAT = 1
_START = struct.Struct("<8sI32s")
_SIZES = struct.Struct("<IQ")
START_BYTES = _START.size + _SIZES.size
# A token id takes at most five bytes of MessagePack.
_ID_BYTES = 5


class Identity(msgspec.Struct, frozen=True):
    """What a state depends on beside its tokens.

    ``build`` of llama.cpp; ``model``: digest of the version, options included; ``context_tokens`` because some models
    choose their rotary factors by the context's size (llama_model::get_rope_factors).
    """

    build: str
    model: str
    context_tokens: int


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``space`` is the adapter's name, "" for none."""

    identity: Identity
    space: str
    tokens: tuple[int, ...]


class Refused(Exception):
    """The file is not used; the message goes on after its name. ``damaged``: nobody wrote it so; else it is another's (version, model...)."""

    def __init__(self, why: str, *, damaged: bool) -> None:
        super().__init__(why)
        self.damaged = damaged


class Sizes(msgspec.Struct, frozen=True):
    """Bytes of the two parts after the start."""

    header: int
    payload: int


def size_of(header: Header, payload_bytes: int) -> tuple[int, int]:
    """Bytes of the whole file, and where the payload begins in it."""
    begin = START_BYTES + len(msgspec.msgpack.encode(header))
    return begin + payload_bytes, begin


def seal(file: memoryview, header: Header) -> None:
    """Writes what comes before the payload, which is in place already."""
    encoded = msgspec.msgpack.encode(header)
    begin = START_BYTES + len(encoded)
    _SIZES.pack_into(file, _START.size, len(encoded), len(file) - begin)
    file[START_BYTES:begin] = encoded
    _START.pack_into(file, 0, MAGIC, FORMAT, hashlib.sha256(file[_START.size :]).digest())


def check_start(start: bytes, file_bytes: int, wanted: Header) -> Sizes:
    """The sizes of the parts, from the first ``START_BYTES`` bytes of a file of ``file_bytes``, all within bounds."""
    if len(start) != START_BYTES or start[: len(MAGIC)] != MAGIC:
        raise Refused("does not begin like the file of a prefix", damaged=True)
    _, version, _ = _START.unpack_from(start)
    if version != FORMAT:
        raise Refused(f"has format {version}, not {FORMAT}", damaged=False)
    sizes = Sizes(*_SIZES.unpack_from(start, _START.size))
    if START_BYTES + sizes.header + sizes.payload != file_bytes:
        raise Refused(f"has {file_bytes:,} bytes, not as many as it says", damaged=True)
    count = len(wanted.tokens)
    if sizes.header > limits.spilled_identity_bytes_max + _ID_BYTES * count:
        raise Refused(f"has a header of {sizes.header:,} bytes, too long for {count:,} tokens", damaged=True)
    if sizes.payload > limits.spilled_token_bytes_max * (count + 1):
        raise Refused(f"has a state of {sizes.payload:,} bytes, too long for {count:,} tokens", damaged=True)
    return sizes


def check_file(file: memoryview, sizes: Sizes, wanted: Header) -> memoryview:
    """The payload of a file whose start has been checked, when the rest is whole and is what is wanted."""
    _, _, digest = _START.unpack_from(file)
    if hashlib.sha256(file[_START.size :]).digest() != digest:
        raise Refused("has not the content that its digest says", damaged=True)
    begin = START_BYTES + sizes.header
    try:
        header = msgspec.msgpack.decode(file[START_BYTES:begin], type=Header)
    except msgspec.DecodeError:
        raise Refused("has a header that cannot be read", damaged=True) from None
    for field in Identity.__struct_fields__:
        found, expected = getattr(header.identity, field), getattr(wanted.identity, field)
        if found != expected:
            raise Refused(f"has {field} {found!r}, not {expected!r}", damaged=False)
    if (header.space, header.tokens) != (wanted.space, wanted.tokens):
        raise Refused("is of another prefix", damaged=False)
    return file[begin:]
