"""What a fake engine is to do, read from the JSON file that stands where a model would.

An empty object is an engine that echoes one FP32 vector.
"""

from pathlib import Path
from typing import Literal

import msgspec

from appliance import limits
from appliance.engine.model_files import read_bounded, regular_file
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec
from appliance.types import BYTES, DATATYPE_BYTES


class Echo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input and the output that gives it back. ``output`` "": the input's name after "out_"."""

    name: str = "x"
    datatype: str = "FP32"
    shape: tuple[int, ...] = (-1,)
    output: str = ""
    optional: bool = False
    labels: tuple[str, ...] = ()


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The error that the load ends with."""

    reason: str = "MODEL_CORRUPT"
    message: str = "this fake engine was told not to load"


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a fake engine can be told.

    ``delay_ms``: how long each step takes. ``load_delay_ms``: how long the load takes. ``allocate_mib``: memory held
    from the load on. ``crash_on``, ``hang_on``, ``fail_on``: when the first input's bytes or the prompt contain this
    text, the step aborts the process, never returns, or fails the call. ``crash_after``: the step after so many
    answers aborts; 0: never. ``constant``: added to numeric echoes, so that two versions can be told apart.
    ``fail_every``: each call of that number fails (5: one in five). ``refuse``: the load fails so. ``crash_on_load``: the load aborts the process.
    """

    kind: Literal["tensor", "language"] = "tensor"
    tensors: tuple[Echo, ...] = (Echo(),)
    batch_axis: bool = False
    delay_ms: int = 0
    load_delay_ms: int = 0
    allocate_mib: int = 0
    crash_on: str = ""
    hang_on: str = ""
    fail_on: str = ""
    fail_every: int = 0
    crash_after: int = 0
    crash_on_load: bool = False
    constant: int = 0
    refuse: Refusal | None = None
    context_tokens: int = 512
    dimensions: int = 4


def read_script(spec: ModelSpec, folder: Path) -> Script:
    """The script of a fake model; InvalidArgument MODEL_CORRUPT when it is none."""
    name = spec.model_path
    data = read_bounded(regular_file(folder, name), name, limits.fake_script_bytes_max)
    try:
        script = msgspec.json.decode(data, type=Script)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"{name!r} is no script of a fake engine: {error}", reason="MODEL_CORRUPT") from None
    for echo in script.tensors:
        if echo.datatype != BYTES and echo.datatype not in DATATYPE_BYTES:
            raise InvalidArgument(f"{name!r}: there is no datatype {echo.datatype!r}", reason="MODEL_CORRUPT")
    return script
