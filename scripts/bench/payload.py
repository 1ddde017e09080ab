"""Input tensors of a benchmark: described on the command line or by the model, filled with reproducible data."""

import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.pb.inference import grpc_service_pb2 as pb

NUMPY_TYPES: dict[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
BYTES_ELEMENT_SIZE = 16


@dataclass(frozen=True)
class InputSpec:
    """One input: -1 in ``shape`` is still open; ``file`` is a .npy file to take the values from."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    file: Path | None = None

    @property
    def open_axes(self) -> list[int]:
        """Places of the axes without a length yet."""
        return [place for place, length in enumerate(self.shape) if length < 0]


def parse_input(text: str) -> InputSpec:
    """Read ``name:datatype:shape[:file.npy]`` (shape as 1x30 or 1,30); ValueError says what is wrong with it."""
    parts = text.split(":", 3)
    if len(parts) < 3:
        raise ValueError(f"input {text!r}: expected name:datatype:shape[:file.npy], such as x:FP32:1x30")
    name, datatype, dimensions = parts[0], parts[1].upper(), parts[2].replace(",", "x")
    if datatype != "BYTES" and datatype not in NUMPY_TYPES:
        raise ValueError(f"input {name!r}: datatype {parts[1]!r} is none of BYTES, {', '.join(NUMPY_TYPES)}")
    try:
        shape = tuple(int(length) for length in dimensions.split("x") if length)
    except ValueError:
        raise ValueError(f"input {name!r}: shape {parts[2]!r} is not numbers joined by x, such as 1x30") from None
    if any(length < -1 for length in shape):
        raise ValueError(f"input {name!r}: shape {parts[2]!r} has a length below -1")
    file = Path(parts[3]) if len(parts) == 4 else None
    if file is not None and not file.is_file():
        raise ValueError(f"input {name!r}: no such file: {file}")
    return InputSpec(name, datatype, shape, file)


def close_axes(spec: InputSpec, batch: int, payload_bytes: int | None = None) -> InputSpec:
    """Give every open axis a length.

    Axis 0 gets ``batch``; with ``payload_bytes`` the last open axis gets what makes the tensor about that many bytes.
    ValueError when another axis is open, or when a size was asked of a tensor whose shape is fixed.
    """
    shape, open_axes = list(spec.shape), spec.open_axes
    sized = open_axes.pop() if payload_bytes is not None and open_axes else None
    if payload_bytes is not None and sized is None:
        raise ValueError(
            f"input {spec.name!r} has the fixed shape {list(spec.shape)}: --payload-bytes needs an open axis"
        )
    for axis in open_axes:
        if axis != 0:
            raise ValueError(
                f"input {spec.name!r} has the open shape {list(spec.shape)}: give it with --input "
                f"{spec.name}:{spec.datatype}:SHAPE"
            )
        shape[axis] = batch
    if sized is not None and payload_bytes is not None:
        element = BYTES_ELEMENT_SIZE + 4 if spec.datatype == "BYTES" else np.dtype(NUMPY_TYPES[spec.datatype]).itemsize
        others = math.prod(length for axis, length in enumerate(shape) if axis != sized)
        shape[sized] = max(1, round(payload_bytes / (element * max(1, others))))
    return replace(spec, shape=tuple(shape))


def _array(spec: InputSpec) -> npt.NDArray[np.generic]:
    kind = NUMPY_TYPES[spec.datatype]
    if spec.file is not None:
        loaded = np.load(spec.file, allow_pickle=False)
        if loaded.shape != spec.shape and math.prod(loaded.shape) != math.prod(spec.shape):
            raise ValueError(f"input {spec.name!r}: {spec.file} holds {list(loaded.shape)}, not {list(spec.shape)}")
        return np.ascontiguousarray(loaded.astype(kind).reshape(spec.shape))
    random = np.random.default_rng(0)
    if kind == "?":
        return random.integers(0, 2, spec.shape).astype(kind)
    if np.dtype(kind).kind == "f":
        return random.random(spec.shape).astype(kind)
    return random.integers(0, 100, spec.shape).astype(kind)


def raw_bytes(spec: InputSpec) -> bytes:
    """The tensor's raw contents, the same at every call: random in [0, 1), integers in [0, 100), 16-byte strings."""
    if spec.datatype == "BYTES":
        element = struct.pack("<I", BYTES_ELEMENT_SIZE) + b"x" * BYTES_ELEMENT_SIZE
        return element * math.prod(spec.shape)
    return _array(spec).tobytes()


def build_request(model: str, version: str, specs: list[InputSpec]) -> bytes:
    """A serialised ModelInferRequest with raw contents for all outputs of the model."""
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    for spec in specs:
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        request.raw_input_contents.append(raw_bytes(spec))
    return request.SerializeToString()
