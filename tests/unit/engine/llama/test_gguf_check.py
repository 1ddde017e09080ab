"""GGUF headers that lie, cut and twisted in every place."""

import contextlib
import ctypes
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import EMBD, VOCAB, write_tiny_gguf

from appliance.engine.llama.gguf_check import STRING, TENSOR_TYPES, GgufTensor, check_gguf
from appliance.errors import InvalidArgument


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "model.gguf").read_bytes()


def refuse(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "secret-name.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidArgument) as caught:
        check_gguf(path)
    assert caught.value.reason == "MODEL_CORRUPT"
    assert "secret-name" not in caught.value.message
    return caught.value.message


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, shape: list[int], kind: int = 0, offset: int = 0, rank: int | None = None) -> bytes:
    dims = struct.pack("<I", len(shape) if rank is None else rank) + struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + dims + struct.pack("<IQ", kind, offset)


def gguf(pairs: list[bytes] = [], tensors: list[bytes] = [], data: int = 256, version: int = 3) -> bytes:  # noqa: B006
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def test_a_good_file_passes(tmp_path, good):
    path = tmp_path / "a.gguf"
    path.write_bytes(good)
    header = check_gguf(path)
    assert (header.version, header.tensors) == (3, 12)
    assert header.values["general.architecture"] == "llama"
    assert header.values["tokenizer.ggml.tokens"] == VOCAB
    assert (header.kinds["general.architecture"], header.kinds["llama.context_length"]) == (STRING, 4)
    assert len(header.layout) == 12
    assert header.layout["output.weight"] == GgufTensor((EMBD, VOCAB), 0)


def test_the_maker_of_bad_headers_can_make_a_good_one(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf([pair(b"a.b", 4, struct.pack("<I", 7))], [tensor(b"t", [8, 8])]))
    assert check_gguf(path).values == {"a.b": 7}


U64_MAX = 2**64 - 1
CASES = {
    "empty": (b"", 'other bytes than "GGUF"'),
    "magic": (b"GGUX" + bytes(60), 'other bytes than "GGUF"'),
    "only magic": (b"GGUF", "version at byte 4 takes 4 bytes"),
    "version 1": (gguf(version=1), "version 1 (known are 2 and 3)"),
    "big-endian": (gguf(version=3 << 24), "big-endian"),
    "tensors": (
        b"GGUF" + struct.pack("<IQQ", 3, 4_000_000_000, 0) + bytes(1000),
        "header claims 4,000,000,000 tensors, the file of 1,024 bytes cannot hold them",
    ),
    "pairs": (b"GGUF" + struct.pack("<IQQ", 3, 0, U64_MAX) + bytes(64), "key-value pairs, the file of 88 bytes"),
    "key length": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, U64_MAX) + bytes(64), "key 0 claims"),
    "key over the end": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 500) + bytes(64), "key 0 at byte 32 takes 500 bytes"),
    "key not UTF-8": (gguf([pair(b"\xff", 4, bytes(4))]), "key 0 is not UTF-8"),
    "key empty": (gguf([pair(b"", 4, bytes(4))]), "is empty or holds control characters"),
    "key control": (gguf([pair(b"a\nb", 4, bytes(4))]), "control characters"),
    "key twice": (gguf([pair(b"a", 4, bytes(4))] * 2), '"a" stands twice'),
    "value type": (gguf([pair(b"a", 99, bytes(4))]), '"a" has the unknown value type 99'),
    "string value": (gguf([pair(b"a", 8, struct.pack("<Q", U64_MAX))]), "claims 18,446,744,073,709,551,615 bytes"),
    "string over the end": (gguf([pair(b"a", 8, struct.pack("<Q", 9999))]), "takes 9,999 bytes, the file ends at"),
    "array of arrays": (gguf([pair(b"a", 9, struct.pack("<IQ", 9, 1))]), "array of the unsupported type 9"),
    "array count": (gguf([pair(b"a", 9, struct.pack("<IQ", 4, 2**62))]), "elements, the file of"),
    "array of strings": (gguf([pair(b"a", 9, struct.pack("<IQ", 8, 2**61))]), "elements, the file of"),
    "string in array": (
        gguf([pair(b"a", 9, struct.pack("<IQ", 8, 2) + text(b"x") + struct.pack("<Q", U64_MAX))]),
        'element 1 of 2 of "a" ends after the file does',
    ),
    "alignment": (gguf([pair(b"general.alignment", 4, struct.pack("<I", 24))]), "must be a power of two"),
    "alignment 0": (gguf([pair(b"general.alignment", 4, bytes(4))]), '"general.alignment" is 0'),
    "alignment type": (gguf([pair(b"general.alignment", 8, text(b"32"))]), "\"general.alignment\" is '32'"),
    "token twice": (
        gguf([pair(b"tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + text(b"x") + text(b"y") + text(b"x"))]),
        "token 2 has the same text as one before it",
    ),
    "NaN": (gguf([pair(b"eps", 6, struct.pack("<f", float("nan")))]), '"eps" is nan'),
    "no layers": (
        gguf([pair(b"general.architecture", 8, text(b"x")), pair(b"x.block_count", 4, bytes(4))]),
        "is 0, allowed",
    ),
    "layers": (
        gguf([pair(b"general.architecture", 8, text(b"x")), pair(b"x.block_count", 4, struct.pack("<I", 65536))]),
        '"x.block_count" is 65536, allowed: 1 to 512',
    ),
    "rank": (gguf(tensors=[tensor(b"t", [], rank=4_000_000)]), "claims 4,000,000 dimensions"),
    "rank 5": (gguf(tensors=[tensor(b"t", [1] * 5)]), "claims 5 dimensions, at most 4"),
    "tensor type": (gguf(tensors=[tensor(b"t", [32], 4)]), "unknown type 4"),
    "block": (gguf(tensors=[tensor(b"t", [33], 8)]), "no multiple of the block of 32"),
    "zero dimension": (gguf(tensors=[tensor(b"t", [0, 4])]), "empty dimension"),
    "tensor size": (gguf(tensors=[tensor(b"t", [2**40, 2**20])]), "the file ends at"),
    "shape overflows 64 bits": (gguf(tensors=[tensor(b"t", [2**63, 2**63, 2])]), "the file ends at"),
    "one byte short": (gguf(tensors=[tensor(b"t", [64])], data=255), "is the download complete?"),
    "offset": (gguf(tensors=[tensor(b"t", [8], offset=2**50)]), "the file ends at"),
    "offset unaligned": (gguf(tensors=[tensor(b"t", [8], offset=8)]), "not a multiple of 32"),
    "overlap": (gguf(tensors=[tensor(b"t", [32]), tensor(b"u", [8], offset=64)]), 'inside of tensor "t"'),
    "name twice": (gguf(tensors=[tensor(b"t", [8]), tensor(b"t", [8], offset=32)]), '"t" stands twice'),
    "name long": (gguf(tensors=[tensor(b"t" * 64, [8])]), "claims 64 bytes, at most 63"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_lie_is_named(tmp_path, name):
    data, words = CASES[name]
    assert words in refuse(tmp_path, data)


def test_a_missing_file_is_told_without_its_path(tmp_path):
    with pytest.raises(InvalidArgument) as caught:
        check_gguf(tmp_path / "nowhere.gguf")
    assert caught.value.reason == "MODEL_FILE_UNREADABLE"
    assert "nowhere" not in caught.value.message


@pytest.mark.parametrize("tenth", range(10))
def test_every_truncation_is_refused(tmp_path, good, tenth):
    refuse(tmp_path, good[: len(good) * tenth // 10])
    refuse(tmp_path, good[: 40 + 97 * tenth])


@settings(max_examples=300, deadline=None)
@given(at=st.integers(4, 3000), value=st.binary(min_size=1, max_size=8))
def test_any_damage_to_the_header_is_a_typed_error_or_harmless(tmp_path_factory, good, at, value):
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(good[:at] + value + good[at + len(value) :])
    with contextlib.suppress(InvalidArgument):  # any other exception fails the test
        check_gguf(path)


def test_the_table_of_tensor_types_is_the_librarys():
    import llama_cpp.llama_cpp as native

    library = ctypes.CDLL(str(Path(native.__file__).parent / "lib" / "libggml-base.so"))
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    known = {n: (library.ggml_blck_size(n), library.ggml_type_size(n)) for n in range(native.GGML_TYPE_COUNT)}
    assert {n: sizes for n, sizes in known.items() if sizes[1]} == TENSOR_TYPES
