"""Rows as the publisher has them: named columns of numbers, whole numbers or texts, beside the object they came in.

The estimator gets the object as it came (a DataFrame stays one), the ONNX model gets arrays of this module: so what is
compared afterwards is all that lies between the two.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from appliance import limits
from appliance.errors import InvalidArgument

Array = npt.NDArray[Any]
Kind = Literal["number", "integer", "text"]


@dataclass(frozen=True)
class Column:
    """One column. ``values``, one for each row: float64 or float32 with NaN for missing; int64; ``str`` objects."""

    name: str
    kind: Kind
    values: Array

    @property
    def missing(self) -> int:
        """How many rows have no value here."""
        return int(np.isnan(self.values).sum()) if self.kind == "number" else 0


@dataclass(frozen=True)
class Table:
    """All columns, equally long. ``given`` is what the estimator takes: an ndarray, or a DataFrame."""

    columns: tuple[Column, ...]
    given: Any

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.columns[0].values)

    @property
    def names(self) -> list[str]:
        """Of the columns, in order."""
        return [column.name for column in self.columns]

    def take(self, indices: Sequence[int] | Array) -> "Table":
        """These rows, in this order."""
        picked = np.asarray(indices, np.intp)
        given = self.given.iloc[picked] if hasattr(self.given, "iloc") else self.given[picked]
        return Table(tuple(Column(c.name, c.kind, c.values[picked]) for c in self.columns), given)

    def numeric(self) -> bool:
        """Whether one matrix of numbers can carry it."""
        return all(column.kind != "text" for column in self.columns)


def table(rows: Any) -> Table:
    """``rows``: a two-dimensional array, a DataFrame, or a mapping of names to equally long columns.

    Raises InvalidArgument TABLE, naming the column.
    """
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):
        columns = tuple(column(str(name), rows.iloc[:, i]) for i, name in enumerate(rows.columns))
        given: Any = rows
    elif isinstance(rows, Mapping):
        columns = tuple(column(str(name), values) for name, values in rows.items())
        given = _assembled(columns)
    else:
        matrix = _array(rows)
        if matrix.ndim != 2:
            raise refused(f"rows must have two axes (rows, columns); they have the shape {list(matrix.shape)}")
        columns = tuple(column(f"column_{i}", matrix[:, i]) for i in range(matrix.shape[1]))
        given = matrix
    _check(columns)
    return Table(columns, given)


def column(name: str, values: Any) -> Column:
    """One column from an array, a Series or a list. Raises InvalidArgument TABLE for what no input of a model can carry."""
    array = _array(values)
    if array.ndim != 1:
        raise refused(f"column {name!r} has the shape {list(array.shape)}, one value a row was expected")
    if array.dtype.kind == "f":
        return Column(name, "number", array if array.dtype.itemsize in (4, 8) else array.astype(np.float64))
    if array.dtype.kind in "iub":
        if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise refused(f"column {name!r} has whole numbers beyond 64 bits with a sign")
        return Column(name, "integer", array.astype(np.int64))
    if array.dtype.kind in "OUST":
        return _from_objects(name, array.astype(object))
    raise refused(f"column {name!r} is of the type {array.dtype}; give numbers or texts")


def _array(values: Any) -> Array:
    """Of plain lists with texts among the numbers, numpy would make texts of all."""
    array = np.asarray(values)
    return array if hasattr(values, "dtype") or array.dtype.kind not in "US" else np.array(values, dtype=object)


def _from_objects(name: str, array: Array) -> Column:
    items = array.tolist()
    if all(_is_number(item) or item is None for item in items):
        numbers = [math.nan if item is None else float(item) for item in items]
        if items and all(isinstance(item, int | np.integer) for item in items):
            return Column(name, "integer", np.array(items, np.int64))
        return Column(name, "number", np.array(numbers, np.float64))
    for row, item in enumerate(items):
        if not isinstance(item, str):
            what = f"is {item!r}, no text" if _is_value(item) else "is missing"
            raise refused(
                f"column {name!r}, row {row}: the value {what}; a text input has none that is missing:"
                " fill it in (an empty text, for one) or leave the row out"
            )
        check_text(item, f"column {name!r}, row {row}")
    return Column(name, "text", array)


def _is_value(item: object) -> bool:
    """False for None, NaN and pandas' NA, which equals nothing either."""
    return item is not None and str(item) not in ("nan", "<NA>", "NaT")


def _is_number(item: object) -> bool:
    return isinstance(item, int | float | np.integer | np.floating | np.bool_)


def check_text(text: str, where: str) -> None:
    """Raises InvalidArgument TEXT unless UTF-8 can carry ``text``."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"{where}: {text!r} is not UTF-8 text (character {error.start}); read the data with its right encoding",
            reason="TEXT",
        ) from None


def _assembled(columns: tuple[Column, ...]) -> Any:
    """A DataFrame where pandas is there: estimators look columns up by name only in one. Else a matrix."""
    _check(columns)
    try:
        import pandas as pd
    except ImportError:
        kinds = {c.kind for c in columns}
        dtype = object if "text" in kinds else np.result_type(*(c.values.dtype for c in columns))
        return np.stack([c.values.astype(dtype) for c in columns], axis=1)
    return pd.DataFrame({c.name: c.values for c in columns})


def _check(columns: tuple[Column, ...]) -> None:
    if not columns or not len(columns[0].values):
        raise refused("there are no rows")
    if len(columns) > limits.publish_columns_max:
        raise refused(f"{len(columns)} columns, at most {limits.publish_columns_max} are allowed")
    seen: set[str] = set()
    for c in columns:
        check_text(c.name, "a column's name")
        if not c.name.strip() or c.name in seen:
            raise refused(f"the column name {c.name!r} is {'used twice' if c.name.strip() else 'empty'}")
        seen.add(c.name)
        if len(c.values) != len(columns[0].values):
            raise refused(
                f"column {c.name!r} has {len(c.values)} rows, {columns[0].name!r} has {len(columns[0].values)}"
            )


def refused(message: str) -> InvalidArgument:
    """What is wrong with the rows."""
    return InvalidArgument(message, reason="TABLE")
