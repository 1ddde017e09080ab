"""Loading: signatures, external data, damaged files, ZipMap, labels, and types that cannot be served."""

import random
import time

import msgspec
import numpy as np
import pytest
from onnx import helper

from appliance.calls import InferCall
from appliance.engine.base import LoadOptions
from appliance.engine.onnx.external_data import ExternalData, external_data
from appliance.engine.onnx.load import load
from appliance.engine.onnx.sessions import session_options
from appliance.errors import ApplianceError, InvalidArgument, ResourceExhausted
from appliance.model_spec import ModelFile
from appliance.types import TensorSpec

DATA = ModelFile(path="w.bin", role="data")


def external(bench, location="w.bin", offset=None, length=16, place="initializer"):
    """A model y = x + w, whose w of 4 floats is external; elsewhere than in the graph's initializers where told."""
    t = bench.types
    tensor = t(name="w", data_type=t.FLOAT, dims=[4], data_location=t.EXTERNAL)
    entries = {"location": location, "offset": offset, "length": length}
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    add = helper.make_node("Add", ["x", "w"], ["y"])
    ends = ([("x", t.FLOAT, [4])], [("y", t.FLOAT, [4])])
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    if place == "initializer":
        return bench.graph([add], *ends, [tensor])
    if place == "constant":
        return bench.graph([constant, add], *ends)
    if place == "subgraph":
        out = helper.make_tensor_value_info("y1", t.FLOAT, [4])
        branch = helper.make_graph([constant, helper.make_node("Add", ["x", "w"], ["y1"])], "b", [], [out])
        condition = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", t.BOOL, [], [True]))
        return bench.graph(
            [condition, helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], *ends
        )
    assert place == "function"
    function = helper.make_function("mine", "AddW", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 21)])
    return bench.graph(
        [helper.make_node("AddW", ["x"], ["y"], domain="mine")],
        *ends,
        functions=[function],
        extra_opsets=[helper.make_opsetid("mine", 1)],
    )


@pytest.mark.parametrize("place", ["initializer", "constant", "subgraph", "function"])
def test_external_data_is_found_wherever_it_is(bench, place):
    path = bench.folder / "m.onnx"
    path.write_bytes(external(bench, "sub/w.bin", 4096, 16, place))
    assert external_data(path, "m.onnx") == [ExternalData("sub/w.bin", 4096, 16)]


def test_external_data_is_loaded(bench):
    (bench.folder / "w.bin").write_bytes(b"skip" + np.arange(4, dtype=np.float32).tobytes())
    engine = bench.load(external(bench, offset=4), [DATA])
    got = bench.infer(engine, [bench.tensor("x", "FP32", [1.0] * 4)])["y"]
    assert np.frombuffer(got.data, np.float32).tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("location", "files", "reason", "words"),
    [
        ("../secret.bin", [], "MODEL_FILE", "outside the model's folder"),
        ("a/../../secret.bin", [], "MODEL_FILE", "outside the model's folder"),
        ("/etc/passwd", [], "MODEL_FILE", "outside the model's folder"),
        ("", [], "MODEL_FILE", "outside the model's folder"),
        ("*/_ORT_MEM_ADDR_/*", [], "MODEL_FILE", "isn't listed"),
        ("w.bin", [], "MODEL_FILE", 'isn\'t listed with role "data"'),
        ("w.bin", [ModelFile(path="w.bin", role="doc")], "MODEL_FILE", "isn't listed"),
        ("missing.bin", [ModelFile(path="missing.bin", role="data")], "MODEL_FILE", "is missing"),
        ("link.bin", [ModelFile(path="link.bin", role="data")], "MODEL_FILE", "link"),
        ("links/w.bin", [ModelFile(path="links/w.bin", role="data")], "MODEL_FILE", "link"),
        ("folder", [ModelFile(path="folder", role="data")], "MODEL_FILE", "not a regular file"),
        ("..\\w.bin", [ModelFile(path="..\\w.bin", role="data")], "MODEL_FILE", "leads out"),
    ],
)
def test_external_data_outside_what_is_listed(bench, location, files, reason, words):
    outside = bench.folder.parent / "secret.bin"
    outside.write_bytes(bytes(16))
    (bench.folder / "w.bin").write_bytes(bytes(16))
    (bench.folder / "link.bin").symlink_to(outside)
    (bench.folder / "links").symlink_to(bench.folder.parent)
    (bench.folder / "folder").mkdir()
    with pytest.raises(InvalidArgument) as caught:
        bench.load(external(bench, location), files)
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert str(bench.folder) not in caught.value.message


@pytest.mark.parametrize("place", ["constant", "subgraph", "function"])
def test_traversal_is_refused_wherever_it_hides(bench, place):
    with pytest.raises(InvalidArgument, match="outside the model's folder"):
        bench.load(external(bench, "../x.bin", place=place))


@pytest.mark.parametrize(
    ("offset", "length", "words"),
    [(0, 17, "17 bytes, it has 16"), (1, 16, "it has 16"), ("x", 16, "offset that is no number"),
     (-1, 16, "no number"), (0, "1e3", "length that is no number"), ("9" * 20, 1, "no number")],
)  # fmt: skip
def test_external_data_beyond_its_file(bench, offset, length, words):
    (bench.folder / "w.bin").write_bytes(bytes(16))
    with pytest.raises(InvalidArgument, match=words) as caught:
        bench.load(external(bench, offset=offset, length=length), [DATA])
    assert caught.value.reason == "MODEL_CORRUPT"


def weights(bench):
    w = helper.make_tensor("w", bench.types.FLOAT, [4], np.arange(4, dtype=np.float32).tobytes(), raw=True)
    ends = ([("x", bench.types.FLOAT, [4])], [("y", bench.types.FLOAT, [4])])
    return bench.graph([helper.make_node("Add", ["x", "w"], ["y"])], *ends, [w])


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: b"",
        lambda m: b"not a model at all",
        lambda m: bytes(1000),
        lambda m: b"\xff" * 1000,
        lambda m: m[: len(m) // 2],
        lambda m: m[:-1],
        lambda m: m[1:],
        lambda m: m + b"\x3a",
        lambda m: b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        lambda m: b"\x08\x08",
        lambda m: b"\x3a\x02\x0a\x00" * 1 + b"\x0b",
        lambda m: b"\x08\x0a" + b"\x3a\x00",
        lambda m: b"GGUF" + bytes(100),
    ],
    ids=range(13),
)
def test_damaged_file(bench, damage):
    with pytest.raises(InvalidArgument) as caught:
        bench.load(damage(weights(bench)))
    assert caught.value.reason == "MODEL_CORRUPT"
    assert "'m.onnx' is damaged or not" in caught.value.message
    assert str(bench.folder) not in caught.value.message
    assert "onnxruntime" not in caught.value.message.lower()


def test_nesting_without_end_is_refused(bench):
    message = b""
    for _ in range(60):  # graph in attribute in node in graph ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            length = len(message)
            size = b""
            while length > 127:
                size += bytes([length & 127 | 128])
                length >>= 7
            message = tag + size + bytes([length]) + message
    length = len(message)
    path = bench.folder / "m.onnx"
    path.write_bytes(b"\x3a" + bytes([length & 127 | 128, length >> 7]) + message)
    with pytest.raises(InvalidArgument, match="nested deeper"):
        external_data(path, "m.onnx")


def test_any_truncation_or_flipped_byte_is_a_typed_error_or_loads(bench):
    model = weights(bench)
    dice = random.Random(7)
    path = bench.folder / "m.onnx"
    reasons = []
    for _ in range(300):
        broken = bytearray(model[: dice.randrange(len(model))] if dice.random() < 0.5 else model)
        if broken:
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        path.write_bytes(broken)
        try:
            load(bench.spec(), bench.folder, LoadOptions())
        except ApplianceError as error:
            reasons.append(error.reason)
    assert set(reasons) <= {"MODEL_CORRUPT", "MODEL_UNSUPPORTED", "MODEL_FILE"}
    assert len(reasons) > 150


@pytest.mark.parametrize(("name", "words"), [("missing.onnx", "missing"), ("../m.onnx", "leads out")])
def test_model_file_itself(bench, name, words):
    spec = bench.spec()
    spec = msgspec.structs.replace(spec, files=(ModelFile(path=name),))
    with pytest.raises(InvalidArgument, match=words):
        load(spec, bench.folder, LoadOptions())


def test_external_data_of_a_large_file_is_found_by_skipping(bench):
    """64 MiB of weights: reading them would take 20 ms and more, walking past them takes under one."""
    t = bench.types
    w = t(name="w", data_type=t.FLOAT, dims=[1 << 24], raw_data=bytes(1 << 26))
    path = bench.folder / "m.onnx"
    path.write_bytes(bench.graph([helper.make_node("Identity", ["x"], ["y"])], [("x", 1, [1])], [("y", 1, [1])], [w]))
    started = time.perf_counter()
    assert external_data(path, "m.onnx") == []
    assert time.perf_counter() - started < 1.0


def test_attributes_with_very_many_numbers(bench):
    node = helper.make_node(
        "Anything", ["x"], ["y"], a=[1.5] * 25_000, b=list(range(25_000)), c=[-1] * 100, s=["ab"] * 9
    )
    path = bench.folder / "m.onnx"
    path.write_bytes(bench.graph([node], [("x", 1, [1])], [("y", 1, [1])]))
    assert external_data(path, "m.onnx") == []


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2"])
def test_types_that_the_protocol_does_not_have(bench, kind):
    with pytest.raises(InvalidArgument, match=r"input 'x' is a tensor.*add a Cast") as caught:
        bench.load(bench.identity(bench.types.DataType.Value(kind)))
    assert caught.value.reason == "MODEL_UNSUPPORTED"


@pytest.mark.parametrize("kind", ["COMPLEX64", "INT4"])
def test_types_that_the_runtime_does_not_have(bench, kind):
    with pytest.raises(InvalidArgument, match="doesn't have") as caught:
        bench.load(bench.identity(bench.types.DataType.Value(kind)))
    assert caught.value.reason == "MODEL_UNSUPPORTED"


def test_unknown_operator(bench):
    model = bench.graph([helper.make_node("Nonsense", ["x"], ["y"])], [("x", 1, [1])], [("y", 1, [1])])
    with pytest.raises(InvalidArgument) as caught:
        bench.load(model)
    assert caught.value.reason == "MODEL_UNSUPPORTED"


def sequence(bench):
    out = helper.make_tensor_sequence_value_info("s", bench.types.FLOAT, ["N"])
    return bench.graph([helper.make_node("SequenceConstruct", ["x"], ["s"])], [("x", 1, ["N"])], [out])


def test_sequence_output_names_the_way_out(bench):
    with pytest.raises(InvalidArgument, match=r"output 's' is a seq\(tensor\(float\)\).*ConcatFromSequence"):
        bench.load(sequence(bench))


def optional_output(bench):
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(1, ["N"]))
    out = helper.make_value_info("o", kind)
    return bench.graph([helper.make_node("Optional", ["x"], ["o"])], [("x", 1, ["N"])], [out])


def test_optional_output_is_refused(bench):
    with pytest.raises(InvalidArgument, match=r"output 'o' is a optional"):
        bench.load(optional_output(bench))


def zipmap(bench, labels, **attributes):
    """ZipMap as skl2onnx writes it, with its probabilities computed from the input."""
    t = bench.types
    key = helper.make_tensor_type_proto(t.FLOAT, [])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(t.STRING if isinstance(labels[0], str) else t.INT64, key)
    )
    name = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    node = helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", **{name: labels})
    return bench.graph(
        [node],
        [("x", t.FLOAT, ["N", len(labels)])],
        [helper.make_value_info("p", kind)],
        extra_opsets=[helper.make_opsetid("ai.onnx.ml", 3)],
    )


@pytest.mark.parametrize(
    ("labels", "sorted_labels", "order"),
    [([7, -1, 3], ("-1", "3", "7"), [1, 2, 0]), (["b", "a:1"], ("a:1", "b"), [1, 0])],
)
def test_zipmap_is_unwrapped_in_the_order_of_its_labels(bench, labels, sorted_labels, order):
    engine = bench.load(zipmap(bench, labels))
    assert engine.signature().outputs == (TensorSpec("p", "FP32", (-1, len(labels)), labels=sorted_labels),)
    assert engine.signature().batch_axis
    rows = np.random.default_rng(1).random((4, len(labels)), np.float32)
    got = bench.infer(engine, [bench.tensor("x", "FP32", rows)])["p"]
    assert got.shape == rows.shape
    assert (np.frombuffer(got.data, np.float32).reshape(rows.shape) == rows[:, order]).all()
    none = bench.infer(engine, [bench.tensor("x", "FP32", np.empty((0, len(labels))))])["p"]
    assert none.shape == (0, len(labels))


def test_zipmap_classification(bench):
    engine = bench.load(zipmap(bench, ["b", "a"]))
    got = bench.infer(engine, [bench.tensor("x", "FP32", [[0.25, 0.75]])], [("p", 2)])["p"]
    assert bench.strings(got) == ["0.750000:0:a", "0.250000:1:b"]


def test_labels_file(bench):
    (bench.folder / "l.txt").write_bytes("ja\nnö\n".encode())
    files = [ModelFile(path="l.txt", role="labels")]
    engine = bench.load(bench.identity(shape=("N", 2)), files, labels={"y": "l.txt"})
    assert engine.signature().outputs[0].labels == ("ja", "nö")
    got = bench.infer(engine, [bench.tensor("x", "FP32", [[0.0, 1.0], [2.0, 1.0]])], [("y", 1)])["y"]
    assert got.shape == (2, 1)
    assert bench.strings(got) == ["1.000000:1:nö", "2.000000:0:ja"]


@pytest.mark.parametrize(
    ("files", "labels", "words"),
    [
        ([], {"y": "l.txt"}, 'isn\'t listed with role "labels"'),
        ([ModelFile(path="l.txt", role="labels")], {"z": "l.txt"}, "names the output 'z'; the model gives 'y'"),
        ([ModelFile(path="bad.txt", role="labels")], {"y": "bad.txt"}, "not UTF-8 at byte 1"),
    ],
)
def test_bad_labels(bench, files, labels, words):
    (bench.folder / "l.txt").write_text("a\n")
    (bench.folder / "bad.txt").write_bytes(b"a\xff")
    with pytest.raises(InvalidArgument, match=words):
        bench.load(bench.identity(), files, labels=labels)


@pytest.mark.parametrize(
    ("inputs", "outputs", "batch"),
    [
        (["N"], ["N"], True),
        (["N", 3], ["N", 2], True),
        ([None, 3], ["N", 2], True),
        ([1, 3], [1, 3], False),
        (["N", 3], ["M", 3], False),
        ([], [], False),
    ],
)
def test_batch_axis(bench, inputs, outputs, batch):
    node = helper.make_node("Identity", ["x"], ["y"])
    if len(inputs) == 2 and outputs[1] == 2:
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
    w = helper.make_tensor("w", 1, [3, 2], [0.0] * 6)
    told = bench.load(bench.graph([node], [("x", 1, inputs)], [("y", 1, outputs)], [w])).signature()
    assert told.batch_axis is batch
    assert told.inputs[0].shape == tuple(a if isinstance(a, int) else -1 for a in inputs)


@pytest.mark.parametrize(("wished", "allowed", "used"), [(0, 0, 1), (4, 0, 4), (0, 3, 3), (4, 2, 2), (1, 8, 1)])
def test_threads(bench, wished, allowed, used):
    options = session_options(bench.spec(threads=wished), LoadOptions(threads=allowed))
    # Threads that spin take cores from the front-ends and from language models.
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == used


def test_a_file_of_another_format_is_not_guessed(bench):
    """A .ort file is a flatbuffer that nothing here has checked."""
    (bench.folder / "m.ort").write_bytes(weights(bench))
    spec = msgspec.structs.replace(bench.spec(), files=(ModelFile(path="m.ort"),))
    assert load(spec, bench.folder, LoadOptions()).signature().inputs[0].name == "x"


def test_a_file_that_cannot_be_opened(bench):
    with pytest.raises(InvalidArgument, match=r"'m\.onnx' can't be opened: No such file") as caught:
        external_data(bench.folder / "gone.onnx", "m.onnx")
    assert str(bench.folder) not in caught.value.message


@pytest.mark.parametrize(("lines", "ok"), [("x\ny\n", True), ("x\n", False), ("x\ny\nz\n", False)])
def test_zipmap_with_labels_of_a_file(bench, lines, ok):
    (bench.folder / "l.txt").write_text(lines)
    files = [ModelFile(path="l.txt", role="labels")]
    if ok:
        told = bench.load(zipmap(bench, ["b", "a"]), files, labels={"p": "l.txt"}).signature()
        assert told.outputs[0].labels == ("x", "y")
        return
    with pytest.raises(InvalidArgument, match="output 'p', which has 2 classes"):
        bench.load(zipmap(bench, ["b", "a"]), files, labels={"p": "l.txt"})


def test_external_data_through_hard_links(bench, tmp_path_factory):
    """The store's folders are made of hard links to its blobs."""
    blob = tmp_path_factory.mktemp("blobs") / "blob"
    blob.write_bytes(np.ones(4, dtype=np.float32).tobytes())
    (bench.folder / "w.bin").hardlink_to(blob)
    got = bench.infer(bench.load(external(bench), [DATA]), [bench.tensor("x", "FP32", [1.0] * 4)])["y"]
    assert np.frombuffer(got.data, np.float32).tolist() == [2.0] * 4


def test_a_forest_of_strings_hides_no_external_data(bench):
    """What the pattern for trees steps over ends where another attribute field begins."""
    t = bench.types
    tensor = t(name="w", data_type=t.FLOAT, dims=[4], data_location=t.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    node = helper.make_node("Anything", ["x"], ["y"], modes=["BRANCH_LEQ", "LEAF", "BRANCH_LT", "BRANCH_XX"] * 20)
    node.attribute.add(name="hidden", ints=[1, 300, -1], floats=[1.0], strings=[b"LEAF"], t=tensor)
    node.attribute.add(name="more", tensors=[tensor], strings=[b"LEAF"] * 3)
    path = bench.folder / "m.onnx"
    path.write_bytes(bench.graph([node], [("x", 1, [1])], [("y", 1, [1])]))
    assert external_data(path, "m.onnx") == [ExternalData("w.bin")]


@pytest.mark.parametrize(("by_model", "by_daemon", "most"), [(0, 0, 128), (0, 3, 3), (2, 3, 2), (5, 3, 5)])
def test_length_of_the_queue(bench, by_model, by_daemon, most):
    (bench.folder / "m.onnx").write_bytes(weights(bench))
    engine = load(bench.spec(queue_max=by_model), bench.folder, LoadOptions(queue_max=by_daemon))
    x = bench.tensor("x", "FP32", [0.0] * 4)
    for _ in range(most):
        engine.submit(InferCall(), [x], bench.reply())
    with pytest.raises(ResourceExhausted):
        engine.submit(InferCall(), [x], bench.reply())
