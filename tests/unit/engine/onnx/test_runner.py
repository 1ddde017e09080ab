"""BF16 among other types."""

import numpy as np
import pytest

from appliance.errors import InvalidArgument


def casting(bench, in_kind, out_kind):
    """x of ``in_kind`` is cast to y of ``out_kind``; a string goes through beside it."""
    node, t = bench.helper.make_node, bench.types
    return bench.graph(
        [node("Cast", ["x"], ["y"], to=out_kind), node("Identity", ["s"], ["t"])],
        [("x", in_kind, ["N"]), ("s", t.STRING, ["N"])],
        [("y", out_kind, ["N"]), ("t", t.STRING, ["N"])],
    )


def test_bf16_input_beside_a_string(bench):
    engine = bench.load(casting(bench, bench.types.BFLOAT16, bench.types.FLOAT))
    engine.warm_up()
    got = bench.infer(engine, [bench.tensor("x", "BF16", [0x3F80]), bench.tensor("s", "BYTES", ["é"])])
    assert np.frombuffer(got["y"].data, np.float32).tolist() == [1.0]
    assert bench.strings(got["t"]) == ["é"]


def test_bf16_output_beside_a_string_input_is_refused_at_load(bench):
    with pytest.raises(InvalidArgument, match="add a Cast") as caught:
        bench.load(casting(bench, bench.types.FLOAT, bench.types.BFLOAT16))
    assert caught.value.reason == "MODEL_UNSUPPORTED"


def test_bf16_output_beside_other_outputs(bench):
    node, t = bench.helper.make_node, bench.types
    model = bench.graph(
        [node("Cast", ["x"], ["y"], to=t.BFLOAT16), node("Cast", ["x"], ["s"], to=t.STRING), node("Neg", ["x"], ["n"])],
        [("x", t.FLOAT, ["N"])],
        [("y", t.BFLOAT16, ["N"]), ("s", t.STRING, ["N"]), ("n", t.FLOAT, ["N"])],
    )
    got = bench.infer(bench.load(model), [bench.tensor("x", "FP32", [2.0])])
    assert bytes(got["y"].data) == b"\x00\x40"
    assert bench.strings(got["s"]) == ["2"]
    assert np.frombuffer(got["n"].data, np.float32).tolist() == [-2.0]
