"""Which tensor goes where in a chain: names, feeds, axes that turn out to be one, and everything that doesn't fit."""

import pytest

from appliance.engine.onnx.chain import make_plan
from appliance.engine.onnx.wiring import Joint, Source, StageNodes, wire
from appliance.errors import InvalidArgument


def node(text):
    """ "x float N 3" is a node."""
    name, kind, *shape = text.split()
    return Joint(name, f"tensor({kind})", [None if a == "?" else int(a) if a.isdigit() else a for a in shape])


def stage(name, inputs, outputs, defaults=()):
    return StageNodes(name, [*map(node, inputs)], [*map(node, defaults)], [*map(node, outputs)])


PRE = stage("pre.onnx", ["raw float N 6"], ["x float N 3", "extra float N 1"])
MODEL = stage("model.onnx", ["x float batch width"], ["logits float batch 2", "label int64 batch"])
POST = stage("post.onnx", ["logits float M C", "label int64 M"], ["scores float M C"])


def shapes(joints):
    return {j.name: j.shape for j in joints}


def test_three_files_by_name():
    wired = wire([PRE, MODEL, POST], {})
    assert shapes(wired.inputs) == {"raw": ["N", 6]}
    assert shapes(wired.outputs) == {"scores": ["N", 2], "extra": ["N", 1]}
    assert wired.givers == {"scores": 2, "extra": 0}
    assert wired.sources[2] == {"logits": Source(1, "logits"), "label": Source(1, "label")}
    assert list(wired.givers) == ["scores", "extra"]


def test_feeds_join_other_names():
    post = stage("post.onnx", ["scores_in float M 2"], ["scores float M 2"])
    wired = wire([MODEL, post], {"scores_in": "logits"})
    assert wired.sources[1] == {"scores_in": Source(0, "logits")}
    assert list(wired.givers) == ["scores", "label"]


def test_the_latest_output_of_a_name_is_taken_and_shown():
    again = stage("again.onnx", ["x float N 3"], ["x float N 3"])
    wired = wire([PRE, again, MODEL], {})
    assert wired.sources[1]["x"] == Source(0, "x")
    assert wired.sources[2]["x"] == Source(1, "x")
    wired = wire([PRE, again], {})
    assert wired.givers == {"x": 1, "extra": 0}


def test_a_file_may_take_what_came_two_files_before():
    late = stage("late.onnx", ["scores float M C", "x float M 3"], ["y float M 1"])
    wired = wire([PRE, MODEL, POST, late], {})
    assert wired.sources[3] == {"scores": Source(2, "scores"), "x": Source(0, "x")}


def test_an_input_of_two_files_is_one_input():
    other = stage("other.onnx", ["raw float ? 6", "logits float B 2"], ["y float B"])
    wired = wire([PRE, MODEL, other], {})
    assert [j.name for j in wired.inputs] == ["raw"]
    assert wired.sources[2]["raw"] == Source(-1, "raw")


def test_defaults_stay_optional_unless_a_file_gives_them():
    with_default = stage("model.onnx", ["x float N 3"], ["y float N"], ["slope float 1", "extra float N 1"])
    wired = wire([PRE, with_default], {})
    assert [j.name for j in wired.defaults] == ["slope"]
    assert wired.sources[1]["extra"] == Source(0, "extra")


def test_unknown_axes_and_ranks_fit_everything():
    pre = stage("pre.onnx", ["raw float"], ["x float ? unk__1"])
    wired = wire([pre, MODEL], {})
    assert shapes(wired.outputs)["logits"] == ["batch", 2]
    wired = wire([stage("pre.onnx", ["raw float N"], ["x float"]), MODEL], {})
    assert shapes(wired.outputs)["logits"] == ["batch", 2]


def test_names_that_are_one_axis_are_shown_as_one_and_lengths_spread():
    first = stage("a", ["x float N W"], ["y float N W"])
    second = stage("b", ["y float M 7"], ["z float M 7"])
    third = stage("c", ["z float K V"], ["r float K V"])
    wired = wire([first, second, third], {})
    assert shapes(wired.inputs) == {"x": ["N", 7]}
    assert shapes(wired.outputs) == {"r": ["N", 7]}


REFUSED = [
    ([PRE, stage("m.onnx", ["x double N 3"], ["y float N"])], {}, "takes tensor(double), not tensor(float)"),
    ([PRE, stage("m.onnx", ["x float N 4"], ["y float N"])], {}, "[N, 3] doesn't fit [N, 4]"),
    ([PRE, stage("m.onnx", ["x float N"], ["y float N"])], {}, "'x' of 'pre.onnx' goes to input 'x' of 'm.onnx'"),
    ([PRE, stage("m.onnx", ["x float K K"], ["y float N"]), stage("p", ["y float 4"], ["z float 1"]),
      stage("q", ["extra float 5 1"], ["w float 1"])], {}, "doesn't fit"),
    ([PRE, MODEL], {"y": "x"}, "names the input 'y'; the later files take 'x'"),
    ([PRE, MODEL], {"x": "logits"}, "'x' is to come from 'logits', which no file before it gives"),
    ([PRE, MODEL], {"raw": "x"}, "'raw' is to come from 'x', which no file before it gives"),
    ([PRE, stage("m.onnx", ["x float N 3", "raw double N 6"], ["y float N"])], {}, "give one of them another name"),
    ([PRE, stage("m.onnx", ["x float N 3", "raw float N 5"], ["y float N"])], {}, "is tensor(float) [N, 6] in 'pre"),
    ([PRE, stage("m.onnx", ["x float N 3", "raw float N"], ["y float N"])], {}, "give one of them another name"),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "feeds", "says"), REFUSED)
def test_what_does_not_fit_is_named(stages, feeds, says):
    with pytest.raises(InvalidArgument) as caught:
        wire(stages, feeds)
    assert caught.value.reason == "MODEL_FILE"
    assert says in caught.value.message


def test_only_tensors_go_from_file_to_file():
    maps = StageNodes("m.onnx", [node("x float N 3")], [], [Joint("p", "seq(map(int64,tensor(float)))", [])])
    post = StageNodes("p.onnx", [Joint("p", "seq(map(int64,tensor(float)))", [])], [], [node("y float N")])
    with pytest.raises(InvalidArgument, match="only tensors go from file to file"):
        wire([maps, post], {})
    assert list(wire([PRE, maps], {}).givers) == ["p", "extra"]  # at the end it is served as a tensor


@pytest.mark.parametrize(
    ("names", "steps", "results"),
    [
        (["scores"], [(0, ["x"]), (1, ["logits", "label"]), (2, ["scores"])], [3]),
        (["extra"], [(0, ["extra"])], [0]),
        (["extra", "scores"], [(0, ["extra", "x"]), (1, ["logits", "label"]), (2, ["scores"])], [0, 4]),
        ([], [], []),
    ],
)
def test_only_files_that_are_needed_run(names, steps, results):
    plan = make_plan(wire([PRE, MODEL, POST], {}), names)
    assert [(s.stage, s.outputs) for s in plan.steps] == steps
    assert plan.results == results
