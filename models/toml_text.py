"""Golden tests as TOML, to be put after a model.toml."""

import json
from collections.abc import Mapping, Sequence

Number = int | float
Tensor = tuple[str, Sequence[int], Sequence[Number]]


def golden(name: str, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], tolerance: float) -> str:
    """One [[golden]] table; tensors are (datatype, shape, elements)."""
    lines = [
        "",
        "[[golden]]",
        f"name = {json.dumps(name)}",
        f"tolerance = {{ absolute = {tolerance:g}, relative = 0 }}",
    ]
    for role, tensors in (("inputs", inputs), ("outputs", outputs)):
        for key, (datatype, shape, data) in tensors.items():
            lines += [f"[golden.{role}.{json.dumps(key)}]", f'datatype = "{datatype}"', f"shape = {list(shape)}"]
            lines.append(f"data = [{', '.join(_number(v) for v in data)}]")
    return "\n".join(lines) + "\n"


def _number(value: Number) -> str:
    """Nine digits carry an FP32 exactly."""
    return str(value) if isinstance(value, int) else f"{value:.9g}" if value % 1 else f"{value:.1f}"
