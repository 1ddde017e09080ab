"""How far the ONNX file is from the estimator, on every row that the publisher gave: pure arithmetic.

Clients send FP32, estimators mostly compute in double precision. What is rounded on the way moves a sum in its last
digits, and a tree's answer altogether when a value lies just at one of its borders: so rows are counted, not averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.errors import FailedPrecondition
from appliance.publish.estimators import Choices, Numbers, Predictions
from appliance.publish.table import Array

# Which rows are named, of those that differ.
_SHOWN = 10


@dataclass(frozen=True)
class Agreement:
    """``scale``: 1 for probabilities, the spread (standard deviation) of a regressor's predictions.

    ``difference`` [rows]: the largest of each row, in units of ``scale``. ``far``: rows beyond ``tolerance``, and those
    whose label differs though it wasn't a tie. ``labels_differ``: rows whose label differs, ties among them.
    """

    scale: float
    tolerance: float
    difference: Array
    far: tuple[int, ...]
    labels_differ: tuple[int, ...]

    @property
    def largest(self) -> float:
        """Over all rows."""
        return float(self.difference.max(initial=0.0))

    def summary(self) -> str:
        """One sentence for the card."""
        rows = len(self.difference)
        unit = "" if self.scale == 1 else f" of a standard deviation of the predictions ({self.scale:.3g})"
        text = f"On {rows} rows the ONNX file is at most {self.largest:.1e}{unit} from the original model"
        if self.far:
            text += f"; {len(self.far)} of them are beyond {self.tolerance:g}"
        if self.labels_differ:
            text += f"; {len(self.labels_differ)} get another label"
        return text + "."


def compare(expected: Predictions, got: Predictions, tolerance: float) -> Agreement:
    """``tolerance`` in units of the scale (see Agreement)."""
    if isinstance(expected, Numbers):
        assert isinstance(got, Numbers)  # the same model's
        scale = _spread(expected.values)
        difference = _distance(got.values, expected.values) / scale
        far = difference > tolerance
        return Agreement(scale, tolerance, difference, _indices(far), ())
    assert isinstance(got, Choices)  # the same model's
    difference = _distance(got.probabilities, expected.probabilities).max(axis=1)
    other = got.labels != expected.labels
    # Two classes that are equally likely: which of them is named is nobody's mistake.
    every = np.arange(len(other))
    said, meant = (expected.probabilities[every, labels] for labels in (got.labels, expected.labels))
    far = (difference > tolerance) | (other & (np.abs(said - meant) > tolerance))
    return Agreement(1.0, tolerance, difference, _indices(far), _indices(other))


def _spread(values: Array) -> float:
    finite = values[np.isfinite(values)]
    spread = float(finite.std()) if len(finite) else 0.0
    # A constant has none: then it's the size that counts.
    return spread or float(np.abs(finite).max(initial=0.0)) or 1.0


def _distance(got: Array, expected: Array) -> Array:
    """NaN is near NaN, an infinity near itself; nothing else is near either."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(got.astype(np.float64) - expected)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    result: Array = np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))
    return result


def _indices(where: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(where))


def check(agreement: Agreement, advice: Sequence[str]) -> None:
    """Raises FailedPrecondition DIFFERENCE when any row is far off."""
    if not agreement.far:
        return
    shown = ", ".join(map(str, agreement.far[:_SHOWN])) + (", …" if len(agreement.far) > _SHOWN else "")
    raise FailedPrecondition(f"{agreement.summary()} Rows: {shown}. {' '.join(advice)}".rstrip(), reason="DIFFERENCE")


def golden_tolerance(agreement: Agreement, rows: Sequence[int]) -> tuple[float, float]:
    """(absolute, relative) of the golden tests on these rows: four times what they differ by here.

    At least a few roundings of FP32, as another processor or version adds in another order; at most the tolerance.
    """
    measured = float(agreement.difference[list(rows)].max(initial=0.0))
    absolute = min(max(4 * measured, 1e-5), max(agreement.tolerance, 1e-5)) * agreement.scale
    digits = float(f"{absolute:.0e}")
    return (digits if digits >= absolute else float(f"{absolute * 1.5:.0e}")), (0.0 if agreement.scale == 1 else 1e-6)
