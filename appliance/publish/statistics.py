"""statistics.json: what the data looked like that the model was made with, so that a box can tell when its own drifts.

The schema is in README.md. Everything is finite and bounded: columns, categories, the length of a category's name.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance import limits
from appliance.publish.estimators import Numbers, Predictions
from appliance.publish.table import Array, Column, Table

SCHEMA = "inference-appliance/statistics"
SCHEMA_VERSION = 1
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BINS = 20
_CATEGORY_CHARS_MAX = 200


def document(
    rows: Table,
    inputs: Sequence[tuple[str, int]],
    predictions: Predictions,
    classes: Sequence[str],
    target: Column | None,
    output: str,
) -> bytes:
    """The file. ``inputs``: for each column, the model's input and its place there. ``classes``: labels of a classifier."""
    kept = rows.columns[: limits.statistics_columns_max]
    columns = [
        {"name": column.name, "input": name, "index": index, **summary(column)}
        for column, (name, index) in zip(kept, inputs, strict=False)
    ]
    content = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "rows": rows.rows,
        "columns_left_out": len(rows.columns) - len(kept),
        "columns": columns,
        "predictions": _predictions(predictions, classes, output),
        "target": {"name": target.name, **summary(target)} if target else None,
    }
    return _lines(content).encode()


def _lines(content: dict[str, Any]) -> str:
    """JSON with a line for each column: a person finds a column, and a difference between two files is readable."""
    parts = []
    for key, value in content.items():
        text = _json(value)
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(map(_json, value)) + "\n ]"
        parts.append(f" {_json(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def summary(column: Column) -> dict[str, Any]:
    """The statistics of one column, by its kind: ``number`` (whole numbers, too) or ``category``."""
    return _categories(column.values.tolist()) if column.kind == "text" else _numbers(column.values)


def _numbers(values: Array) -> dict[str, Any]:
    wide = values.astype(np.float64)
    finite = np.sort(wide[np.isfinite(wide)])
    result: dict[str, Any] = {
        "kind": "number",
        "count": len(wide),
        "missing": int(np.isnan(wide).sum()),
        "infinite": int(np.isinf(wide).sum()),
    }
    if not len(finite):
        return result
    with np.errstate(over="ignore"):
        # Half of each first: the square of the largest doubles is infinite, which JSON has no number for.
        mean, std = float(np.mean(finite / 2) * 2), float(np.std(finite / 2) * 2)
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, _BINS + 1), method="nearest"))
    if len(edges) == 1:
        edges = np.repeat(edges, 2)
    return result | {
        "mean": mean if np.isfinite(mean) else None,
        "std": std if np.isfinite(std) else None,
        "min": float(finite[0]),
        "max": float(finite[-1]),
        "quantiles": {f"{q:g}": float(np.quantile(finite, q, method="nearest")) for q in _QUANTILES},
        "histogram": {"edges": edges.tolist(), "counts": _counts(finite, edges)},
    }


def _counts(finite: Array, edges: Array) -> list[int]:
    """Bin i has edges[i] <= value < edges[i + 1]; the last one its upper edge, too. numpy's own divides by the width."""
    below = np.searchsorted(finite, edges, side="left")
    below[-1] = len(finite)
    below[0] = 0
    return [int(n) for n in np.diff(below)]


def _categories(values: Sequence[str]) -> dict[str, Any]:
    counts = Counter(values)
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: limits.statistics_categories_max]
    return {
        "kind": "category",
        "count": len(values),
        "missing": 0,
        "distinct": len(counts),
        "categories": [{"value": value[:_CATEGORY_CHARS_MAX], "count": count} for value, count in most],
        "other": len(values) - sum(count for _, count in most),
    }


def _predictions(predictions: Predictions, classes: Sequence[str], output: str) -> list[dict[str, Any]]:
    if isinstance(predictions, Numbers):
        return [{"output": output, **_numbers(predictions.values)}]
    found: list[dict[str, Any]] = [
        {"output": "label", **_categories([classes[i] for i in predictions.labels.tolist()])}
    ]
    for index, name in enumerate(classes[: limits.statistics_categories_max]):
        found.append(
            {"output": "probabilities", "index": index, "label": name, **_numbers(predictions.probabilities[:, index])}
        )
    return found
