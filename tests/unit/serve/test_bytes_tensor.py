import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serve import bytes_tensor

elements = st.lists(st.binary(max_size=300), max_size=20)


@given(elements)
def test_what_is_packed_passes_and_comes_back(items: list[bytes]) -> None:
    data = bytes_tensor.pack(items)
    bytes_tensor.check(data, len(items))
    assert bytes_tensor.unpack(data) == items


@given(elements.filter(bool), st.data())
def test_any_cut_is_found(items: list[bytes], data: st.DataObject) -> None:
    packed = bytes_tensor.pack(items)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(bytes_tensor.BadBytesTensor):
        bytes_tensor.check(packed[:cut], len(items))


@given(elements, st.binary(min_size=1, max_size=8))
def test_any_tail_is_found(items: list[bytes], tail: bytes) -> None:
    with pytest.raises(bytes_tensor.BadBytesTensor):
        bytes_tensor.check(bytes_tensor.pack(items) + tail, len(items))


@pytest.mark.parametrize(
    ("data", "count", "words"),
    [
        (b"\x05\0\0\0ab", 1, "reaches 3 bytes beyond the end"),
        (b"\xff\xff\xff\xffab", 1, "beyond the end"),
        (b"\x01\0\0", 1, "in the middle of its length"),
        (b"\x01\0\0\0a", 2, "there are 1 elements, the shape says 2"),
        (b"\x01\0\0\0a", 0, "5 bytes come after the last of 0 elements"),
        (b"", 1, "there are 0 elements"),
    ],
)
def test_message(data: bytes, count: int, words: str) -> None:
    with pytest.raises(bytes_tensor.BadBytesTensor, match=words):
        bytes_tensor.check(data, count)
