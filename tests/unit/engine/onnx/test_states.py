"""The states that model.toml names, held against what the model takes and gives, and the files of first states."""

import numpy as np
import pytest

from appliance import limits
from appliance.engine.onnx.states import RowsOf, make_states, rows_of
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelFile, SequenceOptions, SequenceState
from appliance.types import ModelKind, ModelSignature, TensorSpec

INITIAL = ModelFile(path="first.npy", role="state")


def signature(takes=("FP32", (2, -1, 4)), gives=("FP32", (-1, -1, -1))):
    inputs = (TensorSpec("x", "FP32", (-1, 8)), TensorSpec("h", *takes))
    return ModelSignature(ModelKind.TENSOR, "p", inputs, (TensorSpec("y", "FP32", (-1, 1)), TensorSpec("hn", *gives)))


def made(bench, told, files=(), **state):
    state = {"input": "h", "output": "hn", "batch_axis": 1, **state}
    spec = bench.spec(files, sequence=SequenceOptions(states=(SequenceState(**state),)))
    return make_states(spec, bench.folder, told)[0]


def misfit(bench, says, told=None, files=(), **state):
    with pytest.raises(InvalidArgument) as caught:
        made(bench, told or signature(), files, **state)
    assert caught.value.reason == "MODEL_FILE"
    assert caught.value.message.startswith("model.toml: onnx.sequence.states[0]")
    assert says in caught.value.message
    assert str(bench.folder) not in caught.value.message


def test_zeros_of_so_many_rows(bench):
    state = made(bench, signature())
    assert (state.fresh(3).shape, state.fresh(3).dtype, state.fresh(3).any()) == ((2, 3, 4), np.float32, False)
    assert state.nbytes(3) == 96
    assert state.batchable
    assert state.takes((2, 3, 4), 3)
    assert not state.takes((2, 3, 4), 2)
    assert not state.takes((2, 3, 5), 3)


def test_a_state_without_rows(bench):
    state = made(bench, signature(("INT64", ()), ("INT64", ())), batch_axis=-1)
    assert (state.fresh(5).shape, state.fresh(5).dtype) == ((), np.int64)
    assert not state.batchable
    assert state.takes((), 5)


def test_a_state_of_a_fixed_number_of_rows(bench):
    state = made(bench, signature(("FP32", (2, 1, 4))))
    assert state.fresh(1).shape == (2, 1, 4)
    assert not state.batchable


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_each_row_begins_with_what_the_file_holds(bench, rows):
    first = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    np.save(bench.folder / "first.npy", first)
    state = made(bench, signature(), (INITIAL,), initial="first.npy")
    fresh = state.fresh(rows)
    assert fresh.shape == (2, rows, 4)
    for row in range(rows):
        np.testing.assert_array_equal(fresh[:, row : row + 1], first)


def test_a_file_settles_open_axes(bench):
    np.save(bench.folder / "first.npy", np.ones((1, 2, 0, 4), np.float32))
    told = signature(("FP32", (-1, 2, -1, 4)), ("FP32", (-1, 2, -1, 4)))
    state = made(bench, told, (INITIAL,), batch_axis=0, initial="first.npy")
    assert state.fresh(5).shape == (5, 2, 0, 4)
    assert not state.batchable
    assert state.takes((5, 2, 17, 4), 5)


def test_bf16_from_a_file_of_fp32(bench):
    np.save(bench.folder / "first.npy", np.ones((2, 1, 4), np.float32))
    told = signature(("BF16", (2, -1, 4)), ("BF16", (2, -1, 4)))
    state = made(bench, told, (INITIAL,), initial="first.npy")
    assert state.fresh(1).tolist() == np.full((2, 1, 4), 0x3F80).tolist()


MISFITS = [
    ({"input": "k"}, None, ".input: the model has no 'k'; it has 'x', 'h'"),
    ({"output": "k"}, None, ".output: the model has no 'k'; it has 'y', 'hn'"),
    ({"batch_axis": 3}, None, ".batch_axis: 3 is no axis of input 'h' is FP32 [2, -1, 4]"),
    ({}, signature(gives=("FP64", (2, -1, 4))), "one can't become the other; add a Cast"),
    ({}, signature(("BYTES", (2, -1, 4)), ("BYTES", (2, -1, 4))), "a state holds numbers"),
    ({}, signature(gives=("FP32", (2, -1, 5))), "output 'hn' is FP32 [2, -1, 5]: the shapes don't fit together"),
    ({}, signature(gives=("FP32", (2, 4))), "the shapes don't fit together"),
    ({}, signature(("FP32", (2, -1, -1))), "only the axis of the rows may be open"),
    ({"batch_axis": -1}, None, "only the axis of the rows may be open"),
    ({"batch_axis": 0}, signature(("FP32", ()), ("FP32", ())), "0 is no axis"),
]


@pytest.mark.parametrize(("state", "told", "says"), MISFITS)
def test_a_state_that_does_not_fit_the_model(bench, state, told, says):
    misfit(bench, says, told, **state)


def test_files_that_do_not_fit(bench, monkeypatch):
    options = {"files": (INITIAL,), "initial": "first.npy"}
    path = bench.folder / "first.npy"
    for content in (b"", b"hello", b"\x93NUMPY\x01\x00\x10\x00{}"):
        path.write_bytes(content)
        misfit(bench, "'first.npy' is not a .npy file of numbers", **options)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    misfit(bench, "is not a .npy file of numbers", **options)
    np.save(path, np.zeros((2, 1, 4)))
    misfit(bench, "holds float64, input 'h' is FP32", **options)
    np.save(path, np.zeros((2, 2, 4), np.float32))
    misfit(bench, "has the shape [2, 2, 4], one row of input 'h' has [2, 1, 4]", **options)
    np.save(path, np.zeros(8, np.float32))
    misfit(bench, "has the shape [8]", **options)
    monkeypatch.setattr(limits, "sequence_initial_bytes_max", 64)
    misfit(bench, "has more than 64 bytes", **options)


def test_a_file_that_is_not_listed(bench):
    np.save(bench.folder / "first.npy", np.zeros((2, 1, 4), np.float32))
    with pytest.raises(InvalidArgument, match="isn't listed with role") as caught:
        made(bench, signature(), initial="first.npy")
    assert caught.value.reason == "MODEL_FILE"


def test_where_a_call_says_how_many_rows_it_has(bench):
    state = made(bench, signature())
    rows = rows_of(bench.spec(), signature(), (state,))
    assert rows == RowsOf("x", 0)
    assert rows.count({"x": np.zeros((5, 8))}) == 5
    assert rows_of(bench.spec(batch_axes={"x": 1}), signature(), (state,)) == RowsOf()
    assert rows_of(bench.spec(batch_axes={"x": -1}), signature(), (state,)) == RowsOf()
    assert RowsOf().count({}) == 1
