"""Build IDs of native libraries: the same for the same bytes, whatever the linker said."""

import build_ids
import pytest

NOTE = b"\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00"


def library(build_id: bytes, code: bytes = b"code") -> bytes:
    return b"\x7fELF" + bytes(60) + NOTE + build_id + code


def test_only_the_id_differs_afterwards() -> None:
    before = library(b"a" * 20)
    after = build_ids.renewed(before)
    assert len(after) == len(before)
    assert (after[:80], after[100:]) == (before[:80], before[100:])
    assert after[80:100] not in (b"a" * 20, bytes(20))


def test_it_depends_on_all_other_bytes_alone() -> None:
    assert build_ids.renewed(library(b"a" * 20)) == build_ids.renewed(library(b"b" * 20))
    assert build_ids.renewed(library(b"a" * 20, b"kode"))[80:100] != build_ids.renewed(library(b"a" * 20))[80:100]


@pytest.mark.parametrize("data", [b"", b"\x7fELF" + bytes(9000) + NOTE + b"a" * 20, library(b"a" * 20)[1:]])
def test_what_has_none_stays(data: bytes) -> None:
    assert build_ids.renewed(data) == data
