"""Tensors as the wire has them, and numpy arrays: one into the other, without copying where the layouts agree.

Numeric data is little-endian on both sides (big-endian hosts are out of scope). BF16 has no numpy type: its array is
uint16, the upper halves of FP32. BYTES arrays hold ``bytes`` or ``str`` objects.
"""

import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.errors import InvalidArgument
from appliance.types import BYTES, Buffer, Tensor

Array = npt.NDArray[Any]

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
_LENGTH = struct.Struct("<I")
# Up to here a copy costs no more than a memoryview (measured: 0.08 against 0.19 us at 8 bytes, equal at 8 KiB).
_COPY_BYTES_MAX = 8192


def from_tensor(tensor: Tensor, dtype: np.dtype[Any]) -> Array:
    """A read-only array of ``tensor.shape`` over the tensor's own bytes; ``dtype`` is NUMPY_TYPES' for its datatype.

    Raises InvalidArgument when the bytes are not as many as the shape needs.
    """
    shape = tensor.shape
    size = len(tensor.data)
    if math.prod(shape) * dtype.itemsize != size or (shape and min(shape) < 0):
        raise InvalidArgument(
            f"tensor {tensor.name!r} of {tensor.datatype} {list(shape)} has {size} bytes; "
            f"{_expected(shape, dtype.itemsize)}",
            reason="TENSOR_SIZE",
        )
    try:
        if tensor.datatype == "BOOL":
            # Any byte but 0 is true, as in C; a C++ bool of 2 would be undefined behaviour further down.
            truths: Array = np.frombuffer(tensor.data, np.uint8).reshape(shape) != 0
            return truths
        array = np.frombuffer(tensor.data, dtype).reshape(shape)
    except ValueError:
        raise InvalidArgument(
            f"tensor {tensor.name!r} has a shape that no array can have: {list(shape)}", reason="TENSOR_SHAPE"
        ) from None
    # Tensors lie behind each other in a frame, so one may begin at an odd address; kernels expect aligned elements.
    return array if array.flags.aligned else array.copy()


def _expected(shape: tuple[int, ...], itemsize: int) -> str:
    if shape and min(shape) < 0:
        return "a dimension can't be negative"
    return f"{math.prod(shape) * itemsize} were expected"


def to_buffer(array: Array) -> Buffer:
    """The array's bytes in row-major order; larger ones without a copy, keeping the array alive."""
    if array.nbytes <= _COPY_BYTES_MAX:
        return array.tobytes()
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return array.data.cast("B")


def to_tensor(name: str, datatype: str, array: Array) -> Tensor:
    """The array as a tensor; a BYTES one's elements may be ``str`` or ``bytes``."""
    if datatype == BYTES:
        return Tensor(name, BYTES, array.shape, encode_elements(array.ravel().tolist()))
    return Tensor(name, datatype, array.shape, to_buffer(array))


def decode_elements(tensor: Tensor) -> list[bytes]:
    """The elements of a BYTES tensor: each a little-endian u32 length and that many bytes.

    Raises InvalidArgument when lengths and bytes don't add up to exactly as many elements as the shape has.
    """
    count = math.prod(tensor.shape)
    if tensor.shape and min(tensor.shape) < 0:
        raise InvalidArgument(
            f"tensor {tensor.name!r}: a dimension can't be negative: {list(tensor.shape)}", reason="TENSOR_SHAPE"
        )
    data = bytes(tensor.data)
    # Each element takes 4 bytes or more, so this bounds the work before it begins.
    if count * 4 > len(data):
        raise _bytes_error(tensor, f"{count} elements need at least {count * 4} bytes")
    elements: list[bytes] = []
    at, end = 0, len(data)
    for index in range(count):
        if at + 4 > end:
            raise _bytes_error(tensor, f"element {index} begins at byte {at}, too late for its length")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4 + length
        if at > end:
            raise _bytes_error(tensor, f"element {index} claims {length} bytes, {end - at + length} are left")
        elements.append(data[at - length : at])
    if at != end:
        raise _bytes_error(tensor, f"{end - at} bytes follow the last element")
    return elements


def _bytes_error(tensor: Tensor, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"BYTES tensor {tensor.name!r} of shape {list(tensor.shape)} with {len(tensor.data)} bytes: {what}",
        reason="TENSOR_SIZE",
    )


def encode_elements(elements: Iterable[str | bytes]) -> bytes:
    """The bytes of a BYTES tensor with these elements; ``str`` become UTF-8."""
    pieces: list[bytes] = []
    for element in elements:
        data = element.encode() if isinstance(element, str) else element
        pieces.append(_LENGTH.pack(len(data)))
        pieces.append(data)
    return b"".join(pieces)


def strings_from_tensor(tensor: Tensor) -> Array:
    """A BYTES tensor as an array of ``str``; InvalidArgument names the element that is not UTF-8."""
    strings: list[str] = []
    try:
        strings.extend(element.decode() for element in decode_elements(tensor))
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"input {tensor.name!r} takes UTF-8 strings; element {len(strings)} is not UTF-8 at byte {error.start}",
            reason="TENSOR_UTF8",
        ) from None
    array = np.empty(len(strings), dtype=object)
    array[:] = strings
    try:
        return array.reshape(tensor.shape)
    except ValueError:
        raise InvalidArgument(
            f"tensor {tensor.name!r} has a shape that no array can have: {list(tensor.shape)}", reason="TENSOR_SHAPE"
        ) from None


def bf16_from_floats(array: Array) -> npt.NDArray[np.uint16]:
    """Numbers as BF16, rounded to nearest even; NaN stays NaN."""
    wide = np.ascontiguousarray(array, np.float32)
    bits = wide.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(wide), np.uint32(0x7FC0), rounded).astype(np.uint16)


def floats_from_bf16(array: Array) -> npt.NDArray[np.float32]:
    """BF16 bits (uint16) as numbers."""
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
