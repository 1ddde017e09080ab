"""LoRA adapters: what they change, which one is on, and every file that does not fit."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from llama_harness import CARD
from tiny_gguf import BYTES, EMBD, FF, IM_END, VOCAB, write_tiny_gguf
from tiny_lora import pair, write_lora, write_tiny_lora

from appliance import limits
from appliance.engine.llama.adapter_check import check_adapter
from appliance.engine.llama.adapters import Adapters, load_adapters
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.gguf_check import check_gguf
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.native import C
from appliance.errors import InvalidArgument, Unimplemented
from appliance.model_spec import LlamaOptions, ModelFile, ModelSpec

SCRIPT = b"abcdef"


def spec_of(adapters: dict[str, str], role: str = "adapter") -> ModelSpec:
    files = (ModelFile(path="model.gguf"), *(ModelFile(path=file, role=role) for file in set(adapters.values())))
    return ModelSpec(
        name="tiny", version="1.0.0", engine="llama", files=files, card=CARD, llama=LlamaOptions(adapters=adapters)
    )


class Rig:
    """A scripted tiny model and its adapters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = write_tiny_gguf(folder / "model.gguf", script=SCRIPT)
        self.model = LlamaModel(path, LlamaOptions())
        self.adapters = Adapters({})
        self.context = self.new_context()

    def new_context(self) -> Context:
        return Context(self.model, tokens=128, batch_tokens=128, threads=1)

    def load(self, **files: str) -> Adapters:
        return load_adapters(spec_of(files), self.folder, self.model)

    def say(self, context: Context | None = None) -> bytes:
        """What the model says greedily after the script's first byte."""
        context = context or self.context
        context.clear()
        said = bytearray(SCRIPT[:1])
        while len(said) < 20:
            context.batch.clear()
            index = context.batch.add([said[-1]], len(said) - 1, 0, output_last=True)
            assert context.decode() is Decoded.DONE
            token = int(np.argmax(context.logits(index)))
            if token == IM_END:
                break
            assert token < BYTES
            said.append(token)
        return bytes(said)

    def close(self) -> None:
        self.context.close()
        self.adapters.close()
        self.model.close()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    write_tiny_lora(tmp_path / "back.gguf", tmp_path / "model.gguf", b"afedcb")
    write_tiny_lora(tmp_path / "short.gguf", tmp_path / "model.gguf", b"az")
    yield rig
    rig.close()


def test_an_adapter_changes_what_the_model_says(rig):
    rig.adapters = rig.load(back="back.gguf", short="short.gguf")
    assert rig.adapters.names == ("back", "short")
    said = {}
    for name in ("", "back", "short", "back", ""):
        rig.adapters.select(rig.context, name)
        said.setdefault(name, rig.say())
        assert rig.say() == said[name]
    assert said == {"": b"abcdef", "back": b"afedcb", "short": b"az"}


def test_each_context_has_its_own(rig):
    rig.adapters = rig.load(back="back.gguf")
    other = rig.new_context()
    rig.adapters.select(other, "back")
    assert (rig.say(), rig.say(other)) == (b"abcdef", b"afedcb")
    other.close()


def test_the_native_library_is_only_asked_for_a_change(rig, monkeypatch):
    rig.adapters = rig.load(back="back.gguf", short="short.gguf")
    native, asked = C.llama_set_adapters_lora, []
    monkeypatch.setattr(C, "llama_set_adapters_lora", lambda *given: asked.append(given[2]) or native(*given))
    for name in ("", "", "back", "back", "short", "", ""):
        rig.adapters.select(rig.context, name)
    assert asked == [1, 1, 0]


def test_an_unknown_adapter_is_refused_and_the_old_one_stays(rig):
    rig.adapters = rig.load(back="back.gguf", short="short.gguf")
    rig.adapters.select(rig.context, "back")
    with pytest.raises(InvalidArgument, match='no adapter "bakc": known are back, short') as caught:
        rig.adapters.select(rig.context, "bakc")
    assert caught.value.reason == "ADAPTER_UNKNOWN"
    assert rig.say() == b"afedcb"


@pytest.mark.parametrize("name", ["", "back"])
def test_known_names_pass(rig, name):
    rig.adapters = rig.load(back="back.gguf")
    rig.adapters.check(name)


def test_a_model_without_adapters(rig):
    rig.adapters.check("")
    with pytest.raises(InvalidArgument, match="this model has none"):
        rig.adapters.check("x" * 100_000)
    with pytest.raises(InvalidArgument) as caught:
        rig.adapters.check("x" * 100_000)
    assert len(caught.value.message) < 500


def test_all_that_was_loaded_is_given_back_when_one_fails(rig, monkeypatch):
    freed = []
    native = C.llama_adapter_lora_free
    monkeypatch.setattr(C, "llama_adapter_lora_free", lambda handle: freed.append(handle) or native(handle))
    with pytest.raises(InvalidArgument, match='adapter "zzz"'):
        rig.load(back="back.gguf", short="short.gguf", zzz="model.gguf")
    assert len(freed) == 2


def good(base: str = "blk.0.attn_q.weight") -> dict[str, np.ndarray]:
    return pair(base, EMBD, EMBD)


def embedding_pair() -> dict[str, np.ndarray]:
    """It lies the other way round: [vocabulary, rank] and [embedding, rank]."""
    a, b = np.ones((VOCAB, 2), np.float32), np.ones((EMBD, 2), np.float32)
    return {"token_embd.weight.lora_a": a, "token_embd.weight.lora_b": b}


def a_only() -> dict[str, np.ndarray]:
    return {name: tensor for name, tensor in good().items() if name.endswith("_a")}


def reshaped(suffix: str, *shape: int) -> dict[str, np.ndarray]:
    return {**good(), f"blk.0.attn_q.weight.{suffix}": np.zeros(shape, np.float32)}


def whole_numbers() -> dict[str, np.ndarray]:
    return {name: tensor.astype(np.int32) for name, tensor in good().items()}


MISFITS = {
    "another model's width": (pair("blk.0.attn_q.weight", EMBD, EMBD * 2), {}, r"\[128, 2\] and \[2, 64\], which do"),
    "another model's height": (pair("blk.0.attn_q.weight", EMBD * 2, EMBD), {}, "do not fit"),
    "ranks differ": (reshaped("lora_b", EMBD, 3), {}, "do not fit"),
    "transposed": (reshaped("lora_a", EMBD, 2), {}, "do not fit"),
    # llama.cpp looks at two axes only, and asserts when it multiplies.
    "third axis": (reshaped("lora_b", 3, EMBD, 2), {}, "do not fit"),
    "third axis of both": (
        {n: np.stack([t, t]) for n, t in good().items()},
        {},
        "do not fit",
    ),
    "another model's layer": (good("blk.7.attn_q.weight"), {}, 'the model has no matrix "blk.7.attn_q.weight"'),
    "on a vector": (pair("output_norm.weight", 1, EMBD), {}, 'the model has no matrix "output_norm.weight"'),
    "half a pair": (a_only(), {}, "has only one of lora_a and lora_b"),
    "nothing": ({}, {}, "it has no tensor"),
    "another kind of tensor": ({**good(), "output.bias": np.zeros(4, np.float32)}, {}, "neither a lora_a nor a lora_b"),
    "whole numbers": (whole_numbers(), {}, "is not F32, F16, BF16 or Q8_0"),
    "architecture": (good(), {"architecture": "qwen2"}, 'for the architecture "qwen2", the model is "llama"'),
    "a model": (good(), {"general_type": "model"}, '"general.type" is "model" and must be "adapter"'),
    "control vector": (good(), {"adapter_type": "control_vector"}, '"adapter.type" is "control_vector"'),
    "no alpha": (good(), {"alpha": None}, '"adapter.lora.alpha" is missing'),
    "alpha of another type": (
        good(),
        {"alpha": None, "extra": {"adapter.lora.alpha": 1}},
        '"adapter.lora.alpha" is missing or no 32-bit float',
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_named(rig, case):
    tensors, twist, words = MISFITS[case]
    write_lora(rig.folder / "bad.gguf", tensors, **twist)
    with pytest.raises(InvalidArgument, match=words) as caught:
        rig.load(bad="bad.gguf")
    assert caught.value.reason == "ADAPTER_MISMATCH"
    assert caught.value.message.startswith('adapter "bad": ')


@pytest.mark.parametrize("key", ["general.type", "adapter.type"])
def test_a_key_of_another_type_never_reaches_the_native_loader(rig, key):
    writer = gguf.GGUFWriter(str(rig.folder / "bad.gguf"), "llama")
    for name in {"general.type", "adapter.type"} - {key}:
        writer.add_string(name, {"general.type": "adapter", "adapter.type": "lora"}[name])
    writer.add_uint32(key, 7)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InvalidArgument, match=f'"{key}" is "7" and must be'):
        rig.load(bad="bad.gguf")


def test_alora_is_not_served(rig):
    write_lora(rig.folder / "a.gguf", good(), extra={"adapter.alora.invocation_tokens": [1, 2]})
    with pytest.raises(Unimplemented, match='adapter "a": it is an aLoRA'):
        rig.load(a="a.gguf")


def test_nan_alpha_is_refused(rig):
    write_lora(rig.folder / "a.gguf", good(), alpha=float("nan"))
    with pytest.raises(InvalidArgument, match=r'"adapter\.lora\.alpha" is nan'):
        rig.load(a="a.gguf")


def test_the_embedding_of_a_model_that_uses_it_for_its_output_too(rig):
    # llama.cpp would multiply with the pair that it means to look up, and assert.
    write_lora(rig.folder / "a.gguf", embedding_pair())
    layout = {name: tensor for name, tensor in rig.model.layout.items() if name != "output.weight"}
    with pytest.raises(Unimplemented, match="no output matrix beside it"):
        check_adapter(check_gguf(rig.folder / "a.gguf"), "llama", layout)


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_cut_file_is_refused(rig, tenth):
    data = (rig.folder / "back.gguf").read_bytes()
    (rig.folder / "cut.gguf").write_bytes(data[: len(data) * tenth // 10])
    with pytest.raises(InvalidArgument, match='adapter "cut": ') as caught:
        rig.load(cut="cut.gguf")
    assert caught.value.reason == "MODEL_CORRUPT"


def test_what_llama_cpp_still_refuses_is_told_too(rig, monkeypatch):
    monkeypatch.setattr(C, "llama_adapter_lora_init", lambda *_: None)
    with pytest.raises(InvalidArgument, match="the engine's log says why") as caught:
        rig.load(back="back.gguf")
    assert caught.value.reason == "ADAPTER_NOT_LOADABLE"


def test_only_listed_files_of_the_right_role(rig):
    with pytest.raises(InvalidArgument, match='role "adapter"'):
        load_adapters(spec_of({"back": "back.gguf"}, role="doc"), rig.folder, rig.model)
    with pytest.raises(InvalidArgument, match="missing"):
        rig.load(x="nowhere.gguf")
    (rig.folder / "link.gguf").symlink_to(rig.folder / "back.gguf")
    with pytest.raises(InvalidArgument, match="link"):
        rig.load(x="link.gguf")


@pytest.mark.parametrize("name", ["", "x" * 97, "a\nb"])
def test_bad_names(rig, name):
    with pytest.raises(InvalidArgument) as caught:
        rig.load(**{name: "back.gguf"})
    assert caught.value.reason == "ADAPTER_NAME"


def test_at_most_so_many(rig):
    names = {f"a{n}": "back.gguf" for n in range(limits.adapters_max)}
    rig.adapters = rig.load(**names)
    assert len(rig.adapters.names) == limits.adapters_max
    with pytest.raises(InvalidArgument, match="names 33 adapters, at most 32"):
        rig.load(**names, more="back.gguf")


@pytest.mark.parametrize(
    "tensors",
    [
        good(),
        pair("blk.0.ffn_down.weight", EMBD, FF),
        pair("output.weight", VOCAB, EMBD, rank=1),
        embedding_pair(),
        {name: tensor.astype(np.float16) for name, tensor in good().items()},
        {**good(), "blk.0.attn_norm.weight": np.ones(EMBD, np.float32)},
    ],
    ids=["attention", "feed-forward", "output, rank 1", "embedding", "F16", "with a norm"],
)  # fmt: skip
def test_what_fits_loads_and_computes(rig, tensors):
    write_lora(rig.folder / "fits.gguf", tensors)
    rig.adapters = rig.load(fits="fits.gguf")
    rig.adapters.select(rig.context, "fits")
    rig.context.batch.clear()
    index = rig.context.batch.add(list(SCRIPT), 0, 0, output_last=True)
    assert rig.context.decode() is Decoded.DONE
    assert np.isfinite(rig.context.logits(index)).all()
