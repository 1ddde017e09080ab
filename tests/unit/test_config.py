"""packaging/appliance.toml and the structs of config.py say the same: every key once, with its true default."""

import re
import sys
from pathlib import Path

import msgspec
import pytest

from appliance.config import Config
from appliance.config_file import load, load_config
from appliance.config_rules import RANGES, all_keys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = Path(__file__).parents[2] / "packaging" / "appliance.toml"
TEXT = DEFAULT_FILE.read_text()
UNCOMMENTED = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", TEXT)


def keys_in_order(text: str) -> list[str]:
    table = ""
    keys = []
    for line in text.splitlines():
        if heading := re.fullmatch(r"\[([a-z_.]+)\]", line):
            table = heading[1]
        elif key := re.match(r"([a-z_]+) = ", line):
            keys.append(f"{table}.{key[1]}")
    return keys


def value_of(config: Config, key: str) -> object:
    value: object = config
    for step in key.split("."):
        value = getattr(value, step)
    return value


def test_every_key_is_there_exactly_once():
    assert sorted(keys_in_order(UNCOMMENTED)) == sorted(all_keys())
    assert len(all_keys()) > 15


def test_as_shipped_it_sets_nothing(tmp_path):
    shipped = tmp_path / "appliance.toml"
    shipped.write_text(TEXT)
    loaded = load(shipped)
    assert loaded.config == Config()
    assert loaded.origins == {}


def test_uncommented_it_sets_the_defaults(tmp_path):
    whole = tmp_path / "appliance.toml"
    whole.write_text(UNCOMMENTED)
    assert load(whole).config == Config()
    assert set(load(whole).origins) == set(all_keys())


@pytest.mark.parametrize("key", all_keys())
def test_default_is_the_true_one(key):
    table = tomllib.loads(UNCOMMENTED)
    for step in key.split("."):
        table = table[step]
    default = value_of(Config(), key)
    assert table == (list(default) if isinstance(default, tuple) else default)
    assert isinstance(table, type(default)) or isinstance(default, tuple)


@pytest.mark.parametrize("key", all_keys())
def test_every_key_has_a_sentence_that_tells_its_range(key):
    table, name = key.rsplit(".", 1)
    section = UNCOMMENTED[UNCOMMENTED.index(f"\n[{table}]\n") :]
    before = section[: re.search(rf"(?m)^{name} = ", section).start()]
    sentence = " ".join(line[1:].strip() for line in before.rsplit("\n\n", 1)[-1].splitlines() if line.startswith("#"))
    assert sentence.endswith(".")
    if key in RANGES:
        assert f"from {RANGES[key].low:g} to {RANGES[key].high:g}".replace(",", "") in sentence


def test_lines_fit():
    assert max(map(len, TEXT.splitlines())) <= 120


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        load_config(DEFAULT_FILE).server.address = "x"  # type: ignore[misc]


def test_config_survives_the_way_to_a_child():
    config = load_config(DEFAULT_FILE, {"server.address": "[::1]:0", "models.required": ["a"]})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=Config) == config


@pytest.mark.parametrize(
    ("euid", "environment", "state", "socket"),
    [
        (0, {}, "/var/lib/inference-appliance", "/run/inference-appliance/appliance.sock"),
        (
            1000,
            {"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"},
            "/s/inference-appliance",
            "/r/inference-appliance/appliance.sock",
        ),
        (
            1000,
            {"HOME": "/h"},
            "/h/.local/state/inference-appliance",
            "/tmp/inference-appliance-1000/inference-appliance/appliance.sock",
        ),
    ],
)
def test_default_folders(monkeypatch, euid, environment, state, socket):
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.geteuid", lambda: euid)
    config = Config()
    assert str(config.state_dir) == state
    assert str(config.unix_socket) == socket
