"""Rows out of arrays, tables and files; and everything that no model could take."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.publish.table import table
from appliance.publish.table_files import cell_values, read_rows


def kinds(rows):
    return [(c.name, c.kind) for c in table(rows).columns]


def test_a_matrix():
    assert kinds(np.zeros((3, 2), np.float32)) == [("column_0", "number"), ("column_1", "number")]
    assert table(np.zeros((3, 2), np.float32)).columns[0].values.dtype == np.float32
    assert kinds([[1, 2], [3, 4]]) == [("column_0", "integer"), ("column_1", "integer")]


def test_a_frame():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", "y"], "d": [True, False]})
    assert kinds(frame) == [("a", "integer"), ("b", "number"), ("c", "text"), ("d", "integer")]
    assert table(frame).columns[1].missing == 1
    assert table(frame).take([1]).given.iloc[0]["c"] == "y"


def test_nullable_numbers_of_pandas():
    assert kinds(pd.DataFrame({"a": pd.array([1, 2], dtype="Int64")})) == [("a", "integer")]


def test_columns_by_name():
    rows = table({"a": [1.5, 2.5], "b": np.array(["x", "y"])})
    assert rows.names == ["a", "b"]
    assert not rows.numeric()
    assert list(rows.given.columns) == ["a", "b"]
    assert rows.take([1]).columns[1].values.tolist() == ["y"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.zeros(3), r"two axes.*shape \[3\]"),
        (np.zeros((0, 2)), "there are no rows"),
        (np.zeros((2, 0)), "there are no rows"),
        ({}, "there are no rows"),
        (np.zeros((2, 2), np.complex64), "complex64"),
        ({"a": [1, 2], "b": [1]}, "'b' has 1 rows, 'a' has 2"),
        ({" ": [1, 2]}, "' ' is empty"),
        ({"a": [[1, 2]]}, r"shape \[1, 2\]"),
        ({"a": ["x", None]}, "'a', row 1: the value is missing; a text input"),
        ({"a": ["x", float("nan")]}, "'a', row 1: the value is missing"),
        (pd.DataFrame({"a": pd.array(["x", None], dtype="string")}), "'a', row 1: the value is missing"),
        ({"a": ["x", 3]}, "'a', row 1: the value is 3, no text"),
        ({"a": ["x", b"y"]}, "no text"),
        ({"a": ["x", "\udcff"]}, "'a', row 1.*not UTF-8"),
        ({"\udcff": [1]}, "a column's name.*not UTF-8"),
        ({"a": np.array([2**64 - 1], np.uint64)}, "beyond 64 bits"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' is used twice"),
    ],
)
def test_rows_that_cannot_be(rows, says):
    with pytest.raises(InvalidArgument, match=says):
        table(rows)


def test_too_many_columns(monkeypatch):
    monkeypatch.setattr(limits, "publish_columns_max", 2)
    with pytest.raises(InvalidArgument, match="3 columns, at most 2"):
        table(np.zeros((1, 3)))


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", "+3"], np.array([1, -2, 3], np.int64)),
        (["1", "", "3"], np.array([1, np.nan, 3])),
        (["1.5", "nan", "inf"], np.array([1.5, np.nan, np.inf])),
        (["1_000", "2"], np.array(["1_000", "2"], object)),
        (["x", ""], np.array(["x", ""], object)),
        (["", ""], np.array(["", ""], object)),
        (["9" * 19], np.array([float("9" * 19)])),
    ],
)
def test_cells(cells, expected):
    got = cell_values(cells)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_numbers_survive_a_csv(numbers):
    np.testing.assert_array_equal(cell_values([repr(n) for n in numbers]).astype(np.float64), numbers)


def test_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes('\ufeffa;"b;c"\r\n1;x\r\n\r\n2;"y;z"\r\n'.encode())
    rows = read_rows(path, ";")
    assert list(rows) == ["a", "b;c"]
    assert rows["a"].tolist() == [1, 2]
    assert rows["b;c"].tolist() == ["x", "y;z"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty: the first line names"),
        (b"1,2\n3,4\n", "all numbers; it must name"),
        (b"a,a\n1,2\n", "'a' twice"),
        (b"a,b\n1,2\n3\n", "line 3: 1 cells, the first line names 2"),
        (b"a\n\xff\n", "not UTF-8"),
        (b'a\n"x\n', "no CSV file"),
    ],
)
def test_bad_csv(tmp_path, content, says):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=says):
        read_rows(path)


def test_arrays_in_files(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    assert read_rows(tmp_path / "a.npy", float32=True).dtype == np.float32
    np.savez(tmp_path / "named.npz", a=np.ones(2), b=np.array(["x", "y"]))
    assert kinds(read_rows(tmp_path / "named.npz")) == [("a", "number"), ("b", "text")]
    assert table(read_rows(tmp_path / "named.npz", float32=True)).columns[0].values.dtype == np.float32
    np.savez(tmp_path / "both.npz", rows=np.ones((2, 2)), y=np.array([0, 1]))
    assert kinds(read_rows(tmp_path / "both.npz")) == [
        ("column_0", "number"),
        ("column_1", "number"),
        ("y", "integer"),
    ]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_pickles(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save = np.save if suffix == ".npy" else np.savez
    save(path, np.array([[object()]], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidArgument, match=r"pickle|Object arrays"):
        read_rows(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"\x93NUMPY\x01\x00\xff\xff"])
def test_broken_arrays(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        read_rows(path)
    assert caught.value.reason == "TABLE"


def test_an_archive_that_is_no_table(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    with pytest.raises(InvalidArgument, match="columns of one axis"):
        read_rows(tmp_path / "a.npz")


def test_files_that_are_not_read(tmp_path, monkeypatch):
    with pytest.raises(InvalidArgument, match=r"rows come as .csv"):
        read_rows(tmp_path / "a.xlsx")
    with pytest.raises(InvalidArgument, match="can't be read: No such file"):
        read_rows(tmp_path / "a.csv")
    monkeypatch.setattr(limits, "publish_table_bytes_max", 3)
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    with pytest.raises(InvalidArgument, match="6 bytes, at most 3"):
        read_rows(tmp_path / "a.csv")


def test_parquet_without_its_library(tmp_path):
    pytest.importorskip("pandas")
    try:
        import pyarrow  # noqa: F401  # only whether it is there
    except ImportError:
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
        with pytest.raises(InvalidArgument, match="needs pandas and pyarrow"):
            read_rows(tmp_path / "a.parquet")
    else:
        pytest.skip("pyarrow is installed")
