"""Tensors into arrays and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine import arrays
from appliance.types import DATATYPE_BYTES, Tensor


def test_each_datatype_has_a_numpy_type_of_its_size():
    assert {d: t.itemsize for d, t in arrays.NUMPY_TYPES.items()} == DATATYPE_BYTES


@given(st.lists(st.binary(max_size=40), max_size=40))
def test_bytes_elements_round_trip(elements):
    data = arrays.encode_elements(elements)
    assert arrays.decode_elements(Tensor("x", "BYTES", (len(elements),), memoryview(data))) == elements


@given(st.lists(st.text(max_size=20), max_size=20))
def test_strings_round_trip(elements):
    tensor = Tensor("x", "BYTES", (len(elements), 1), arrays.encode_elements(elements))
    back = arrays.strings_from_tensor(tensor)
    assert back.shape == (len(elements), 1)
    assert back.ravel().tolist() == elements
    assert arrays.to_tensor("x", "BYTES", back) == tensor


@given(st.binary(max_size=64), st.integers(0, 8))
def test_bytes_elements_either_decode_wholly_or_are_refused(data, count):
    tensor = Tensor("x", "BYTES", (count,), data)
    try:
        elements = arrays.decode_elements(tensor)
    except arrays.InvalidArgument:
        return
    assert len(elements) == count
    assert arrays.encode_elements(elements) == data


@given(st.lists(st.floats(width=32), max_size=30))
def test_bf16_is_the_nearest_and_nan_stays(numbers):
    exact = np.array(numbers, np.float32)
    near = arrays.floats_from_bf16(arrays.bf16_from_floats(exact))
    for a, b in zip(exact.tolist(), near.tolist(), strict=True):
        if math.isnan(a):
            assert math.isnan(b)
        elif abs(a) > 1e-37 and math.isfinite(b):
            assert abs(a - b) <= abs(a) * 2**-8
        else:
            assert abs(a) <= 1e-37 or abs(a) > 3.3e38


@pytest.mark.parametrize(
    ("number", "bits"), [(1.0, 0x3F80), (-2.0, 0xC000), (math.inf, 0x7F80), (1.00390625, 0x3F80), (1.01171875, 0x3F82)]
)
def test_bf16_rounds_to_even(number, bits):
    assert arrays.bf16_from_floats(np.array([number], np.float32)).tolist() == [bits]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [2, 5000])
def test_buffers_are_row_major(order, rows):
    array = np.asarray(np.arange(rows * 3, dtype=np.int32).reshape(rows, 3), order=order)
    buffer = arrays.to_buffer(array)
    assert len(buffer) == array.nbytes
    assert bytes(buffer) == array.tobytes("C")


def test_an_array_from_a_tensor_shares_its_bytes():
    data = np.arange(4, dtype=np.float32).tobytes()
    array = arrays.from_tensor(Tensor("x", "FP32", (2, 2), data), arrays.NUMPY_TYPES["FP32"])
    assert array.ctypes.data == np.frombuffer(data, np.uint8).ctypes.data
    assert not array.flags.writeable
