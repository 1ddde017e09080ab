"""Values to tensors of the Open Inference Protocol and back, checked so that nothing is silently rounded or cut."""

import contextlib
import io
import struct
from typing import Any

import numpy as np

from appliance.cli.exit_codes import CommandFailed, ExitCode

Array = np.ndarray[Any, Any]

_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


def refuse(message: str) -> CommandFailed:
    """Bad input, to raise."""
    return CommandFailed(ExitCode.INVALID_INPUT, message)


def load_npy(data: bytes, place: str) -> Array:
    """A .npy file's array; raises CommandFailed that names ``place``."""
    try:
        # Pickled objects in a .npy file would run code of whoever wrote it.
        loaded: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        pickled = "pickle" in str(error)
        raise refuse(
            f"{place} holds Python objects, save numbers or text" if pickled else f"{place} is damaged"
        ) from None
    return loaded.astype(object) if loaded.dtype.kind in "SU" else loaded


def to_array(name: str, value: object, datatype: str) -> Array:
    """Nested lists, a scalar or an array as an array of the datatype (BYTES: of objects, BF16: of float32).

    Raises CommandFailed when an element cannot be one of ``datatype``.
    """
    try:
        given = value if isinstance(value, np.ndarray) else np.asarray(value, dtype=object)
    except ValueError:
        raise refuse(f'input "{name}": the rows have different lengths') from None
    if given.dtype == object and any(isinstance(item, (list, tuple, dict)) for item in given.flat):
        raise refuse(f'input "{name}": the rows have different lengths, or hold objects')
    if datatype == "BYTES":
        for item in given.flat:
            if not isinstance(item, (str, bytes)):
                raise refuse(f'input "{name}" takes text (BYTES), not {item!r:.60}')
        return given.astype(object)
    if given.dtype == object:
        given = _numbers(name, given, datatype)
    if datatype == "BF16":
        return given.astype(np.float32)
    if datatype not in _DTYPES:
        raise refuse(f'input "{name}" has the datatype {datatype}, which this command does not know')
    return _cast(name, given, datatype)


def _numbers(name: str, given: Array, datatype: str) -> Array:
    """Python objects as numbers; text that holds one (as in CSV) counts."""
    values = [_number(name, item, datatype) for item in given.flat]
    flat = np.asarray(values) if values else np.zeros(0, _DTYPES.get(datatype, np.float32))
    if flat.dtype == object:
        raise refuse(f'input "{name}": a number is too large for {datatype}')
    return flat.reshape(given.shape)


def _number(name: str, item: object, datatype: str) -> bool | int | float:
    if isinstance(item, (bool, int, float)):
        return item
    if isinstance(item, str):
        text = item.strip()
        if datatype == "BOOL" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        with contextlib.suppress(ValueError):
            return int(text)
        with contextlib.suppress(ValueError):
            return float(text)
    shown = "null" if item is None else repr(item)[:60]
    raise refuse(f'input "{name}": {shown} is not a {datatype}')


def _cast(name: str, given: Array, datatype: str) -> Array:
    wanted = np.dtype(_DTYPES[datatype])
    if given.dtype.kind not in "biuf":
        raise refuse(f'input "{name}": an array of {given.dtype} cannot become {datatype}')
    if wanted.kind == "b":
        if not np.isin(given, (0, 1)).all():
            raise refuse(f'input "{name}": only true, false, 1 and 0 are a BOOL')
    elif wanted.kind in "iu" and given.size:
        if given.dtype.kind == "f" and not (np.isfinite(given).all() and (given == np.trunc(given)).all()):
            raise refuse(f'input "{name}" takes whole numbers ({datatype})')
        low, high, limits = int(given.min()), int(given.max()), np.iinfo(wanted)
        if low < limits.min or high > limits.max:
            raise refuse(f'input "{name}": {low if low < limits.min else high} is outside of {datatype}')
    with np.errstate(over="ignore"):
        cast = given.astype(wanted)
    if wanted.kind == "f" and np.isinf(cast).any() and not np.isinf(given[np.isinf(cast)]).all():
        raise refuse(f'input "{name}": a number is too large for {datatype}')
    return cast


def fit_shape(array: Array, shape: list[int]) -> Array:
    """One row where the model takes a batch of them gets its axis; anything else is left for the daemon to judge."""
    if array.ndim == len(shape) - 1 and shape[0] in (-1, 1):
        return array[np.newaxis, ...]
    return array


def encode(array: Array, datatype: str) -> bytes:
    """The protocol's raw bytes: row-major, little-endian; BYTES elements each after their u32 length."""
    if datatype == "BYTES":
        items = [i if isinstance(i, bytes) else str(i).encode() for i in array.flat]
        return b"".join(struct.pack("<I", len(item)) + item for item in items)
    if datatype == "BF16":
        bits = np.ascontiguousarray(array, "<f4").view("<u4")
        # Round to nearest, ties to even; a NaN must not be rounded up into infinity.
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
        return bytes(np.where(np.isnan(array), np.uint32(0x7FC0), rounded).astype("<u2").tobytes())
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def decode(raw: bytes, datatype: str, shape: list[int]) -> Array:
    """The opposite of ``encode``; BYTES become text where they are UTF-8. Raises CommandFailed when sizes disagree."""
    try:
        if datatype == "BYTES":
            flat: Array = np.empty(int(np.prod(shape, dtype=np.int64)), dtype=object)
            flat[:] = _decode_bytes(raw)
        elif datatype == "BF16":
            flat = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            flat = np.frombuffer(raw, np.dtype(_DTYPES[datatype]).newbyteorder("<"))
        return flat.reshape(shape)
    except (KeyError, ValueError, struct.error):
        message = f"the daemon sent {len(raw)} bytes for an output of {datatype} {shape}, which does not fit"
        raise CommandFailed(ExitCode.FAILED, message) from None


def _decode_bytes(raw: bytes) -> list[str]:
    items, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4 + size
        if at > len(raw):
            raise ValueError
        items.append(raw[at - size : at].decode("utf-8", "backslashreplace"))
    return items
