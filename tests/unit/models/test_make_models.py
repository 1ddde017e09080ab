"""Making model folders: whole or not at all, once; and that what is made does what its golden tests say."""

import os
from pathlib import Path

import pytest

from appliance.engine.base import LoadOptions
from appliance.engine.golden import run_golden
from appliance.engine.loading import load
from appliance.store.model_toml import parse
from models import fetch, make
from models.toml_text import golden


@pytest.fixture
def maker(monkeypatch):
    """A maker of smollm2's files that costs nothing, and how often it ran."""
    calls = []

    def made(folder: Path) -> dict[str, str]:
        calls.append(folder)
        (folder / "model.gguf").write_bytes(b"GGUF")
        (folder / "LICENSE").write_text("free")
        return {}

    monkeypatch.setitem(make.MAKERS, "smollm2", made)
    return calls


def test_made_once(tmp_path, maker, capsys):
    assert make.main([str(tmp_path / "t"), "smollm2"]) == 0
    assert make.main([str(tmp_path / "t"), "smollm2"]) == 0
    assert len(maker) == 1
    assert "there already" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "t")) == ["smollm2"]
    assert sorted(os.listdir(tmp_path / "t" / "smollm2")) == ["LICENSE", "model.gguf", "model.toml"]


@pytest.mark.parametrize("damage", ["file missing", "other version", "no toml", "broken toml"])
def test_made_again_when_incomplete_or_old(tmp_path, maker, damage):
    folder = make.make("smollm2", tmp_path)
    toml = folder / "model.toml"
    if damage == "file missing":
        (folder / "model.gguf").unlink()
    elif damage == "no toml":
        toml.unlink()
    else:
        text = toml.read_text()
        toml.write_text(text.replace('"1.0.0"', '"0.9.0"') if damage == "other version" else text + "[[")
    make.make("smollm2", tmp_path)
    assert len(maker) == 2
    assert (folder / "model.gguf").exists()
    assert 'version = "1.0.0"' in toml.read_text()


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fails(folder: Path) -> dict[str, str]:
        (folder / "half").write_bytes(b"x")
        raise OSError(28, "no space left")

    monkeypatch.setitem(make.MAKERS, "smollm2", fails)
    with pytest.raises(OSError, match="no space"):
        make.make("smollm2", tmp_path)
    assert os.listdir(tmp_path) == []


def test_unknown_name(tmp_path, capsys):
    with pytest.raises(SystemExit):
        make.main([str(tmp_path), "gpt"])
    assert "there is no model 'gpt'; there are breast-cancer" in capsys.readouterr().err


def test_a_cached_wheel_is_not_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fetch.subprocess, "run", lambda *_, **__: pytest.fail("pip ran"))
    pin = next(
        line for line in (Path(fetch.__file__).parent / "wheels.txt").read_text().splitlines() if "silero" in line
    )
    cached = fetch.cache_dir() / f"silero-vad-{pin.rsplit(':', 1)[1]}.whl"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"")
    assert fetch.wheel("silero-vad") == cached


def test_a_failed_fetch_leaves_the_cache_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fetch.sys, "executable", "/bin/false")
    with pytest.raises(SystemExit, match=r"could not fetch silero-vad==6.2.3"):
        fetch.wheel("silero-vad")
    assert list(fetch.cache_dir().iterdir()) == []


@pytest.mark.parametrize("name", make.MAKERS)
def test_each_template_is_a_strict_model_toml(name):
    template = (Path(make.__file__).parent / name / "model.toml").read_bytes().replace(b"@golden@", b"")
    spec = parse(template)
    assert spec.name == name
    assert all((spec.card.licence, spec.card.source, spec.card.intended_use, spec.card.limits, spec.card.description))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["breast-cancer", "diabetes"])
def test_classic_models_pass_their_golden_tests(tmp_path, name):
    folder = make.make(name, tmp_path)
    text = (folder / "model.toml").read_bytes()
    spec = parse(text)
    assert b"@" not in text.replace(b"between @ and", b"")
    engine = load(spec, folder, LoadOptions())
    engine.warm_up()
    assert run_golden(engine, spec, folder) == ["held-back rows"]
    assert engine.signature().batch_axis


def test_golden_toml_keeps_every_bit():
    text = golden('a "b"', {"x": ("FP32", [3], [0.1, 1e-30, 3.0])}, {"y": ("INT64", [], [7])}, 1e-3)
    toml = 'name="m"\nversion="1.0.0"\nengine="onnx"\nfiles=[{path="a"}]\n[card]\nlicence="a"\nsource="a"\n'
    spec = parse((toml + 'intended_use="a"\nlimits="a"\n' + text).encode())
    (test,) = spec.golden
    assert test.name == 'a "b"'
    assert test.inputs["x"].data == [0.1, 1e-30, 3.0]
    assert (test.outputs["y"].shape, test.outputs["y"].data) == ((), [7])
