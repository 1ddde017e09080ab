"""How like two versions' answers to one call are: the same labels, and how far apart their numbers. Pure."""

import sys
from array import array
from collections.abc import Sequence
from math import isfinite, isnan
from typing import NamedTuple

from appliance import limits
from appliance.answers import AnyAnswer, EmbedDone, InferDone, RerankDone
from appliance.tensor_heads import TensorHead
from appliance.types import ModelSignature, TensorSpec

# memoryview's and array's letters (struct). FP16 and BF16 are compared as bytes only.
_FLOATS = {"FP32": "f", "FP64": "d"}
# JSON has no infinity, and comparisons are kept as JSON.
_FARTHEST = sys.float_info.max


class Output(NamedTuple):
    """One output and its bytes."""

    head: TensorHead
    data: memoryview


class Likeness(NamedTuple):
    """Of one pair. ``agree`` None: no output says what it is; ``distance`` None: none is a floating point number."""

    alike: bool
    agree: bool | None = None
    distance: float | None = None
    relative: float = 0.0


def outputs_of(answer: AnyAnswer, body: bytes | memoryview) -> list[Output]:
    """The numbers of an answer, whatever it answers; raises ValueError when heads and body don't go together."""
    body = memoryview(body)
    if isinstance(answer, EmbedDone):
        return [Output(TensorHead("embedding", "FP32", (answer.count, answer.dimensions), len(body)), body)]
    if isinstance(answer, RerankDone):
        scores = array("d", answer.scores).tobytes()
        return [Output(TensorHead("score", "FP64", (len(answer.scores),), len(scores)), memoryview(scores))]
    found, start = [], 0
    if isinstance(answer, InferDone):
        for head in answer.tensors:
            found.append(Output(head, body[start : start + head.nbytes]))
            start += head.nbytes
    if start != len(body):
        raise ValueError(f"tensor heads claim {start} bytes, the frame carries {len(body)}")
    return found


def likeness(signature: ModelSignature | None, active: Sequence[Output], candidate: Sequence[Output]) -> Likeness:
    """``signature`` is the active version's: what its outputs mean."""
    specs = {spec.name: spec for spec in signature.outputs} if signature is not None else {}
    others = {output.head.name: output for output in candidate}
    agree: bool | None = None
    distance: float | None = None
    relative = 0.0
    for mine in active:
        other = others.pop(mine.head.name, None)
        if other is None or (other.head.datatype, other.head.shape) != (mine.head.datatype, mine.head.shape):
            return Likeness(False)
        spec = specs.get(mine.head.name)
        code = _FLOATS.get(mine.head.datatype)
        if code is None or (spec is not None and (spec.labels or spec.threshold is not None)):
            agree = _same_meaning(spec, mine, other, code) and agree is not False
        if code is not None:
            far, share = _distance(mine, other, code)
            distance, relative = max(distance or 0.0, far), max(relative, share)
    return Likeness(not others, agree, distance, relative)


def _same_meaning(spec: TensorSpec | None, mine: Output, other: Output, code: str | None) -> bool:
    if _same(mine, other):
        return True
    if code is None or spec is None:
        return False
    one, two = _numbers(mine, code), _numbers(other, code)
    if spec.labels:
        axis = max(1, mine.head.shape[-1] if mine.head.shape else 1)
        rows = min(len(one), limits.compare_elements_max) // axis or 1
        return all(_best(one, row, axis) == _best(two, row, axis) for row in range(rows))
    border = spec.threshold or 0.0
    step = _step(len(one))
    return all((a >= border) == (b >= border) for a, b in zip(one[::step], two[::step], strict=True))


def _best(numbers: "array[float]", row: int, axis: int) -> int:
    part = numbers[row * axis : (row + 1) * axis]
    return part.index(max(part)) if part else 0


def _distance(mine: Output, other: Output, code: str) -> tuple[float, float]:
    """The largest difference of any two elements, and the largest as a share of the larger one. Both are finite."""
    if _same(mine, other):
        return 0.0, 0.0
    one, two = _numbers(mine, code), _numbers(other, code)
    step = _step(len(one))
    far = share = 0.0
    for a, b in zip(one[::step], two[::step], strict=True):
        if a == b:
            continue
        gap = abs(a - b)
        if isfinite(gap):
            far, share = max(far, gap), max(share, gap / max(abs(a), abs(b)))
        elif not (isnan(a) and isnan(b)):
            # No number on one side only: as far as can be.
            return _FARTHEST, 1.0
    return far, share


def _same(mine: Output, other: Output) -> bool:
    # As bytes: memoryviews are compared element by element.
    return mine.data.tobytes() == other.data.tobytes()


def _numbers(output: Output, code: str) -> "array[float]":
    numbers: array[float] = array(code)
    numbers.frombytes(output.data)
    return numbers


def _step(count: int) -> int:
    return max(1, -(-count // limits.compare_elements_max))
