"""How like two answers are."""

import struct
from array import array
from math import inf, nan

import pytest

from appliance import limits
from appliance.answers import EmbedDone, InferDone, RerankDone
from appliance.serve.likeness import Likeness, Output, likeness, outputs_of
from appliance.tensor_heads import TensorHead
from appliance.types import ModelKind, ModelSignature, TensorSpec


def fp32(*numbers: float, name: str = "y", shape: tuple[int, ...] | None = None) -> Output:
    data = struct.pack(f"<{len(numbers)}f", *numbers)
    return Output(TensorHead(name, "FP32", shape or (len(numbers),), len(data)), memoryview(data))


def int64(*numbers: int) -> Output:
    data = struct.pack(f"<{len(numbers)}q", *numbers)
    return Output(TensorHead("label", "INT64", (len(numbers),), len(data)), memoryview(data))


def signature(**spec: object) -> ModelSignature:
    return ModelSignature(ModelKind.TENSOR, "fake", (), (TensorSpec("y", "FP32", (-1, 3), **spec),))  # type: ignore[arg-type]


PLAIN, LABELS, THRESHOLD = signature(), signature(labels=("a", "b", "c")), signature(threshold=0.5)


@pytest.mark.parametrize(
    ("meaning", "active", "candidate", "agree", "distance"),
    [
        (PLAIN, [fp32(1, 2)], [fp32(1, 2)], None, 0.0),
        (PLAIN, [fp32(1, 2)], [fp32(1, 2.5)], None, 0.5),
        (LABELS, [fp32(0.1, 0.7, 0.2)], [fp32(0.3, 0.4, 0.3)], True, 0.3),
        (LABELS, [fp32(0.1, 0.7, 0.2)], [fp32(0.5, 0.3, 0.2)], False, 0.4),
        (LABELS, [fp32(1, 0, 0, 0, 1, 0, shape=(2, 3))], [fp32(2, 0, 0, 0, 2, 0, shape=(2, 3))], True, 1.0),
        (LABELS, [fp32(1, 0, 0, 0, 1, 0, shape=(2, 3))], [fp32(1, 0, 0, 0, 1, 2, shape=(2, 3))], False, 2.0),
        (THRESHOLD, [fp32(0.6, 0.1)], [fp32(0.9, 0.4)], True, 0.3),
        (THRESHOLD, [fp32(0.6, 0.1)], [fp32(0.4, 0.1)], False, 0.2),
        (PLAIN, [int64(3)], [int64(3)], True, None),
        (PLAIN, [int64(3)], [int64(4)], False, None),
        # All that says what it is must say the same.
        (PLAIN, [int64(3), fp32(1)], [int64(4), fp32(1)], False, 0.0),
        (LABELS, [fp32(1, 0, 0), int64(0)], [fp32(0, 1, 0), int64(0)], False, 1.0),
        (None, [fp32(1)], [fp32(3)], None, 2.0),
    ],
)
def test_agreement_and_distance(
    meaning: ModelSignature | None, active: list[Output], candidate: list[Output], agree: bool, distance: float
) -> None:
    found = likeness(meaning, active, candidate)
    assert found.alike
    assert found.agree is agree
    assert found.distance == (pytest.approx(distance, rel=1e-6) if distance is not None else None)


@pytest.mark.parametrize(
    ("active", "candidate"),
    [
        ([fp32(1)], []),
        ([], [fp32(1)]),
        ([fp32(1)], [fp32(1, name="z")]),
        ([fp32(1, 2)], [fp32(1, 2, shape=(2, 1))]),
        ([fp32(1)], [Output(TensorHead("y", "FP64", (1,), 8), memoryview(bytes(8)))]),
    ],
)
def test_other_outputs_are_not_alike(active: list[Output], candidate: list[Output]) -> None:
    assert not likeness(PLAIN, active, candidate).alike


@pytest.mark.parametrize(
    ("mine", "other", "far", "relative"),
    [
        (nan, nan, 0.0, 0.0),
        (inf, inf, 0.0, 0.0),
        (-0.0, 0.0, 0.0, 0.0),
        (nan, 1.0, 1e308, 1.0),
        (inf, 1.0, 1e308, 1.0),
        (inf, -inf, 1e308, 1.0),
        (2.0, 1.0, 1.0, 0.5),
        (0.0, 1.0, 1.0, 1.0),
        (-1.0, 1.0, 2.0, 2.0),
    ],
)
def test_numbers_that_are_none(mine: float, other: float, far: float, relative: float) -> None:
    found = likeness(PLAIN, [fp32(mine, 7.0)], [fp32(other, 7.0)])
    assert found.distance is not None
    assert (found.distance >= far) if far > 1e300 else (found.distance == far)
    assert found.distance < inf
    assert found.relative == relative


def test_of_a_large_output_a_part_is_compared_that_is_spread_over_all_of_it() -> None:
    count = 10 * limits.compare_elements_max
    one, two = array("f", [0.0] * count), array("f", [0.0] * count)
    two[-10] = 1.0  # every tenth element is looked at
    two[5] = 9.0
    outputs = [
        Output(TensorHead("y", "FP32", (count,), 4 * count), memoryview(numbers).cast("B")) for numbers in (one, two)
    ]
    assert likeness(PLAIN, outputs[:1], outputs[1:]) == Likeness(True, None, 1.0, 1.0)


def test_every_kind_of_answer_has_outputs() -> None:
    embedded = outputs_of(EmbedDone(2, 3, 7), bytes(24))
    assert [(o.head.datatype, o.head.shape) for o in embedded] == [("FP32", (2, 3))]
    ranked = outputs_of(RerankDone((0.5, 1.5)), b"")
    assert ranked[0].data.cast("d").tolist() == [0.5, 1.5]
    with pytest.raises(ValueError, match="claim"):
        outputs_of(InferDone((TensorHead("y", "FP32", (9,), 36),)), bytes(12))
