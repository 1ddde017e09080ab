"""The optimised graph on disk: the same answers, never for another runtime or processor, and no trust in what lies there."""

import hashlib
import os

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from appliance.engine.base import LoadOptions
from appliance.engine.onnx import graph_cache
from appliance.engine.onnx.graph_cache import Record, key, pays, processor_name, worth_trying
from appliance.engine.onnx.sessions import open_session
from appliance.model_spec import ModelFile

MS, MB = 1_000_000, 1_000_000


@pytest.mark.parametrize(
    ("load_ms", "size", "worth"),
    [
        # The measured ones of README.md: OCR detector and recogniser, silero-vad; forests, MobileNetV2, MiniLM, BERT.
        (21.6, 4.7 * MB, True), (44.9, 10.9 * MB, True), (15.0, 1.3 * MB, True), (18.5, 1.6 * MB, True),
        (2.1, 0.2 * MB, False), (20.9, 14.2 * MB, False), (105.3, 89.5 * MB, False), (364.7, 434 * MB, False),
        (0.1, 100, False), (5000.0, 65 * 1024 * 1024, False), (5000.0, 64 * 1024 * 1024, True),
    ],
)  # fmt: skip
def test_what_is_worth_a_trial(load_ms, size, worth):
    assert worth_trying(int(load_ms * MS), int(size)) is worth


@pytest.mark.parametrize(
    ("plain", "cached", "good"), [(15.0, 6.3, True), (18.5, 16.9, False), (10.0, 7.5, True), (10.0, 7.6, False)]
)
def test_what_pays(plain, cached, good):
    assert pays(int(plain * MS), int(cached * MS)) is good


def test_a_key_changes_with_all_that_a_graph_depends_on():
    facts = {"digest": "sha256:1", "name": "m.onnx", "optimization": "all", "runtime": "1.32.0", "processor": "a"}
    others = {name: key(**facts | {name: "other"}) for name in facts}
    assert len({key(**facts), *others.values()}) == 1 + len(facts)
    assert key(**facts) == key(**facts)


# --- with the runtime ------------------------------------------------------------------------------------------------


class Shop:
    """A convolutional net, a folder for its graph, and sessions of it. Every trial pays unless a test says otherwise."""

    def __init__(self, bench, monkeypatch):
        self.bench = bench
        self.patch = monkeypatch
        self.path = bench.folder / "m.onnx"
        self.path.write_bytes(convolutional(bench))
        self.cache = bench.folder / "cache"
        self.digest = "sha256:1"
        self.made = []
        monkeypatch.setattr(graph_cache, "worth_trying", lambda *_: True)
        monkeypatch.setattr(graph_cache, "pays", lambda *_: True)
        real = ort.InferenceSession
        monkeypatch.setattr(
            ort, "InferenceSession", lambda path, *a, **k: self.made.append(path) or real(path, *a, **k)
        )

    def session(self, cached=True, **options):
        """``made``: the files that sessions were made of meanwhile."""
        self.made.clear()
        load = LoadOptions(cache_dir=str(self.cache) if cached else "", digest=self.digest)
        return open_session(self.path, self.bench.spec(**options), load).session

    def answer(self, session):
        x = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
        return session.run(None, {"x": x})[0].tobytes()

    def files(self, pattern="*"):
        return sorted((self.cache / "graphs").glob(pattern))

    @property
    def graph(self):
        (path,) = self.files("*.onnx")
        return path

    @property
    def record(self):
        (path,) = self.files("*.json")
        return path

    def hit(self):
        """Whether a session comes from the cache now."""
        self.session()
        return str(self.path) not in self.made


def convolutional(bench):
    rng = np.random.default_rng(1)
    weights, nodes, last = [], [], "x"
    for i, (ins, outs) in enumerate([(3, 16), (16, 16), (16, 16)]):
        shapes = {"w": (outs, ins, 3, 3), "s": outs, "b": outs, "m": outs, "v": outs}
        weights += [
            numpy_helper.from_array(np.abs(rng.standard_normal(shape)).astype(np.float32), f"{name}{i}")
            for name, shape in shapes.items()
        ]
        names = [f"{name}{i}" for name in "sbmv"]
        nodes += [
            helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [f"c{i}", *names], [f"n{i}"]),
            helper.make_node("Relu", [f"n{i}"], [f"r{i}"]),
        ]
        last = f"r{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["y"]))
    ends = [("x", bench.types.FLOAT, ["n", 3, 16, 16])], [("y", bench.types.FLOAT, ["n", 16, 1, 1])]
    return bench.graph(nodes, *ends, weights)


@pytest.fixture
def shop(bench, monkeypatch):
    return Shop(bench, monkeypatch)


def test_the_answers_are_the_same_bytes_with_and_without(shop):
    without = shop.answer(shop.session(cached=False))
    assert not shop.cache.exists()
    first = shop.session()
    assert shop.answer(first) == without
    again = shop.session()
    assert shop.made == [str(shop.graph)]
    assert shop.answer(again) == without
    for ends in ("get_inputs", "get_outputs", "get_overridable_initializers"):
        assert [(n.name, n.type, n.shape) for n in getattr(again, ends)()] == [
            (n.name, n.type, n.shape) for n in getattr(first, ends)()
        ]


def test_what_is_kept_is_optimised_and_private(shop):
    shop.session()
    operators = {node.op_type for node in onnx.load(shop.graph).graph.node}
    assert "BatchNormalization" not in operators
    assert shop.graph.stat().st_mode & 0o777 == 0o600
    assert (shop.cache / "graphs").stat().st_mode & 0o777 == 0o700
    assert shop.files() == [shop.graph, shop.record]


def test_another_release_of_the_runtime_makes_its_own(shop):
    shop.session()
    old = shop.graph
    shop.patch.setattr(ort, "__version__", "9.9.9")
    assert not shop.hit()
    assert shop.hit()
    assert old not in shop.files()


def test_another_processor_makes_its_own(shop):
    shop.session()
    shop.patch.setattr(graph_cache, "processor_name", lambda: "another")
    assert not shop.hit()
    assert shop.hit()


def test_another_version_of_the_model_never_finds_it(shop):
    shop.session()
    shop.digest = "sha256:2"
    assert not shop.hit()


@pytest.mark.parametrize("optimization", ["extended", "basic", "off"])
def test_another_level_makes_its_own(shop, optimization):
    shop.session()
    shop.session(optimization=optimization)
    assert str(shop.path) in shop.made


@pytest.mark.parametrize("missing", ["cache_dir", "digest"])
def test_nothing_is_kept_without_a_place_or_a_digest(shop, missing):
    options = {"cache_dir": str(shop.cache), "digest": "sha256:1"} | {missing: ""}
    open_session(shop.path, shop.bench.spec(), LoadOptions(**options))
    assert not shop.cache.exists()


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def linked(path):
    data = path.read_bytes()
    path.unlink()
    target = path.parent.parent / "elsewhere"
    target.write_bytes(data)
    path.symlink_to(target)


DAMAGE = {
    "flipped bit": flipped,
    "truncated": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"\0"),
    "empty": lambda p: p.write_bytes(b""),
    "gone": lambda p: p.unlink(),
    "a link": linked,
    "another model": lambda p: p.write_bytes(b"x" * p.stat().st_size),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_graph_is_set_aside_and_made_anew(shop, damage):
    before = shop.answer(shop.session())
    damage(shop.graph)
    session = shop.session()
    assert str(shop.path) in shop.made
    assert shop.answer(session) == before
    assert shop.hit()
    assert len(shop.files("*.broken")) <= 2


RECORDS = {
    "no JSON": b"{",
    "empty": b"",
    "a list": b"[]",
    "no digest": b'{"sha256": "../../../etc/passwd", "size": 3}',
    "a wrong size": b'{"sha256": "' + b"0" * 64 + b'", "size": -1}',
    "a wrong type": b'{"sha256": 3}',
    "endless": b'{"sha256": "' + b"0" * 100_000 + b'"}',
    "not UTF-8": b'{"sha256": "\xff"}',
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_that_is_no_record(shop, record):
    before = shop.answer(shop.session())
    shop.record.write_bytes(record)
    assert shop.answer(shop.session()) == before
    assert str(shop.path) in shop.made
    assert shop.hit()


def test_an_intact_graph_that_the_runtime_refuses(shop):
    before = shop.answer(shop.session())
    data = b"\x3a\x00" * 20
    record = msgspec.json.decode(shop.record.read_bytes(), type=Record)
    sha256 = hashlib.sha256(data).hexdigest()
    shop.graph.rename(shop.graph.with_name(shop.graph.name.replace(record.sha256[:32], sha256[:32])))
    shop.graph.write_bytes(data)
    shop.record.write_bytes(msgspec.json.encode(Record(sha256=sha256, size=len(data))))
    assert shop.answer(shop.session()) == before
    assert shop.hit()


def test_damage_again_and_again_leaves_one_copy(shop):
    for _ in range(3):
        shop.session()
        flipped(shop.graph)
    assert len(shop.files("*.broken")) <= 2


def test_what_does_not_pay_is_tried_once(shop):
    shop.patch.setattr(graph_cache, "pays", lambda *_: False)
    shop.session()
    assert shop.made.count(str(shop.path)) > 1
    assert shop.files() == [shop.record]
    assert not shop.hit()
    assert shop.made == [str(shop.path)]


def test_what_is_not_worth_it_is_not_tried(shop):
    shop.patch.setattr(graph_cache, "worth_trying", lambda *_: False)
    shop.session()
    assert shop.made == [str(shop.path)]
    assert not shop.cache.exists()


def test_a_model_with_external_data_is_not_kept(shop, bench):
    """The runtime leaves such tensors where they are, and would look for them beside the graph."""
    (bench.folder / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    t = bench.types
    tensor = t(name="w", data_type=t.FLOAT, dims=[4], data_location=t.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    ends = ([("x", t.FLOAT, [4])], [("y", t.FLOAT, [4])])
    shop.path.write_bytes(bench.graph([helper.make_node("Add", ["x", "w"], ["y"])], *ends, [tensor]))
    spec = bench.spec([ModelFile(path="w.bin", role="data")])
    session = open_session(shop.path, spec, LoadOptions(cache_dir=str(shop.cache), digest="sha256:1")).session
    assert session.run(None, {"x": np.ones(4, np.float32)})[0].tolist() == [1, 2, 3, 4]
    assert not shop.cache.exists()


def test_a_folder_that_cannot_be_written_to_costs_only_time(shop):
    shop.cache.write_text("a file is in the way")
    assert shop.answer(shop.session()) == shop.answer(shop.session(cached=False))


def test_a_failed_trial_leaves_nothing_half_written(shop):
    def broken(*_):
        raise OSError(28, "No space left on device")

    shop.patch.setattr(graph_cache.durable, "rename", broken)
    assert shop.session() is not None
    assert shop.files() == []


def test_left_overs_of_a_crash_go_after_a_while(shop):
    folder = shop.cache / "graphs"
    folder.mkdir(parents=True)
    old, young = folder / ".a.onnx.1.tmp", folder / ".b.onnx.2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    shop.session()
    assert not old.exists()
    assert young.exists()


def test_the_processor_is_named_once_however_many_there_are(tmp_path):
    one = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: EPYC\nflags\t\t: fpu avx2\nbogomips\t: 1.0\n\n"
    (tmp_path / "cpuinfo").write_text(one * 64)
    name = processor_name(tmp_path / "cpuinfo")
    assert name.splitlines()[1:] == ["vendor_id\t: AuthenticAMD", "model name\t: EPYC", "flags\t\t: fpu avx2"]
    assert processor_name(tmp_path / "missing")
    assert processor_name() == processor_name()
