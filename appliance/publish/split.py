"""Which rows are held back, and which of them show what: pure, and the same for the same rows.

Held-back rows aren't part of the statistics; they become the golden tests. A typical row lies near the medians, an
extreme one far from them in some column, or where the model's answer is lowest or highest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.publish.estimators import Choices, Numbers, Predictions
from appliance.publish.table import Array, Table

_SEED = 20


@dataclass(frozen=True)
class Group:
    """The rows of one golden test."""

    name: str
    rows: tuple[int, ...]


def hold_back(predictions: Predictions, count: int) -> list[int]:
    """``count`` row numbers, ascending: from every class in turn, so that none is left out; at most half of the rows."""
    labels = predictions.labels if isinstance(predictions, Choices) else None
    rows = len(_values(predictions))
    count = min(count, rows // 2)
    order = np.random.default_rng(_SEED).permutation(rows)
    if labels is None:
        return sorted(int(i) for i in order[:count])
    queues = [[int(i) for i in order if labels[i] == label] for label in np.unique(labels)]
    picked: list[int] = []
    while len(picked) < count:
        for queue in queues:
            if queue and len(picked) < count:
                picked.append(queue.pop(0))
    return sorted(picked)


def groups(rows: Table, predictions: Predictions, usable: Sequence[int]) -> list[Group]:
    """Every usable row in one group; ``usable`` must not be empty.

    "a typical row" (so that one row alone is tested, too), "typical rows", "extreme rows", "rows with missing values".
    """
    gaps = np.zeros(rows.rows, bool)
    for column in rows.columns:
        if column.kind == "number":
            gaps |= np.isnan(column.values)
    missing = [i for i in usable if gaps[i]]
    whole = [i for i in usable if not gaps[i]]
    farness = _farness(rows)
    extreme = _extremes(whole, farness, predictions)
    typical = sorted((i for i in whole if i not in extreme), key=lambda i: (farness[i], i))
    found = [
        Group("a typical row", tuple(typical[:1])),
        Group("typical rows", tuple(sorted(typical[1:]))),
        Group("extreme rows", tuple(sorted(extreme))),
        Group("rows with missing values", tuple(missing)),
    ]
    return [group for group in found if group.rows]


def _extremes(whole: Sequence[int], farness: Array, predictions: Predictions) -> set[int]:
    """A third of the rows at the most: the lowest and highest answer, then the farthest."""
    room = len(whole) // 3
    values = _values(predictions)
    finite = [i for i in whole if np.isfinite(values[i])]
    wanted = [*sorted(finite, key=lambda i: values[i])[:1], *sorted(finite, key=lambda i: -values[i])[:1]]
    wanted += sorted(whole, key=lambda i: (-farness[i], i))
    return set(list(dict.fromkeys(wanted))[:room])


def _values(predictions: Predictions) -> Array:
    """What a person would sort by: the number, or how sure the model is."""
    if isinstance(predictions, Numbers):
        return predictions.values
    sure: Array = predictions.probabilities.max(axis=1)
    return sure


def _farness(rows: Table) -> Array:
    """[rows]: the largest distance from a median, in quartile ranges of its column; texts don't count."""
    result = np.zeros(rows.rows)
    for column in rows.columns:
        if column.kind == "text":
            continue
        values = np.where(np.isfinite(column.values), column.values, np.nan).astype(np.float64)
        if np.isnan(values).all():
            continue
        low, middle, high = np.nanpercentile(values, (25, 50, 75))
        distance = np.abs(values - middle) / ((high - low) or 1.0)
        result = np.fmax(result, distance)
    return result
