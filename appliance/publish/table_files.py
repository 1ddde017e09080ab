"""Rows out of a file: .csv with a line of names, .npy, .npz, .parquet (where pandas can read it). No pickles."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from appliance import limits
from appliance.publish.table import Array, refused


def read_rows(path: Path, delimiter: str = ",", float32: bool = False) -> Any:
    """What ``table.table`` takes: a matrix, a DataFrame, or a mapping of column names to values.

    ``float32`` gives a model that was trained on FP32 rows the same again. Raises InvalidArgument TABLE.
    """
    readers: dict[str, Callable[[], Any]] = {
        ".csv": lambda: _csv(path, delimiter),
        ".npy": lambda: _numpy(path),
        ".npz": lambda: _npz(path),
        ".parquet": lambda: _parquet(path),
    }
    if path.suffix not in readers:
        raise refused(f"{path.name}: rows come as {', '.join(readers)}")
    try:
        size = path.stat().st_size
        if size > limits.publish_table_bytes_max:
            raise refused(f"{path.name} has {size} bytes, at most {limits.publish_table_bytes_max} are read")
        rows = readers[path.suffix]()
    except OSError as error:
        raise refused(f"{path.name} can't be read: {os.strerror(error.errno or 0)}") from None
    return _narrow(rows) if float32 else rows


def _narrow(rows: Any) -> Any:
    if isinstance(rows, dict):
        return {name: _narrow(values) for name, values in rows.items()}
    if isinstance(rows, np.ndarray):
        return rows.astype(np.float32) if rows.dtype == np.float64 else rows
    return rows.astype({name: np.float32 for name in rows.columns if rows[name].dtype == np.float64})


def _csv(path: Path, delimiter: str) -> dict[str, Array]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            names = next(lines, [])
            _check_names(names, path.name)
            columns: list[list[str]] = [[] for _ in names]
            for cells in lines:
                if not cells:
                    continue
                if len(cells) != len(names):
                    raise refused(
                        f"{path.name}, line {lines.line_num}: {len(cells)} cells, the first line names {len(names)}"
                    )
                for values, cell in zip(columns, cells, strict=True):
                    values.append(cell)
    except UnicodeDecodeError as error:
        raise refused(f"{path.name} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise refused(f"{path.name} is no CSV file: {error}") from None
    return {name: cell_values(values) for name, values in zip(names, columns, strict=True)}


def _check_names(names: list[str], file: str) -> None:
    if not names:
        raise refused(f"{file} is empty: the first line names the columns")
    if all(_number(name) is not None for name in names):
        raise refused(f"{file}: the first line is all numbers; it must name the columns")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise refused(f"{file}: the first line names {twice!r} twice")


def cell_values(cells: list[str]) -> Array:
    """Whole numbers when all cells are, numbers when all are or are empty (missing), else the texts as they are."""
    numbers = [_number(cell) for cell in cells]
    if any(number is None for number in numbers) or all(not cell.strip() for cell in cells):
        return np.array(cells, dtype=object)
    if all(cell.strip().lstrip("+-").isdecimal() and len(cell.strip()) <= 18 for cell in cells):
        return np.array([int(cell) for cell in cells], np.int64)
    return np.array(numbers, np.float64)


def _number(cell: str) -> float | None:
    """The number, NaN for an empty cell, None for what is none. Python's 1_000 is none elsewhere."""
    if not cell.strip():
        return float("nan")
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _numpy(path: Path) -> Array:
    array = _loaded(path)
    if not isinstance(array, np.ndarray):
        raise refused(f"{path.name} is an archive of arrays: call it .npz")
    return array


def _npz(path: Path) -> Any:
    """One two-dimensional array is the rows; arrays of one axis are columns by name."""
    arrays = _loaded(path)
    if not isinstance(arrays, dict):
        raise refused(f"{path.name} is one array: call it .npy")
    flat = {name: array for name, array in arrays.items() if array.ndim == 1}
    wide = [array for array in arrays.values() if array.ndim == 2]
    if len(wide) == 1 and len(flat) == len(arrays) - 1:
        return {f"column_{i}": wide[0][:, i] for i in range(wide[0].shape[1])} | flat if flat else wide[0]
    if len(flat) == len(arrays) and flat:
        return flat
    raise refused(f"{path.name}: give columns of one axis each, or one array of rows and columns")


def _loaded(path: Path) -> Array | dict[str, Array]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {name: found[name] for name in found.files}
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and numpy have errors of their own for each way to be broken
        raise refused(f"{path.name} holds no arrays of numbers or texts: {error}") from None


def _parquet(path: Path) -> Any:
    try:
        import pandas as pd

        return pd.read_parquet(path)
    except ImportError as error:
        raise refused(f"{path.name}: reading .parquet needs pandas and pyarrow ({error}); .csv needs neither") from None
    except ValueError as error:
        raise refused(f"{path.name} is no .parquet file: {error}") from None
