"""packaging/appliance.toml and the structs of config.py say the same: every key once, with its true default."""

import re
import sys
from pathlib import Path

import msgspec
import pytest

from appliance.config import Config
from appliance.config_file import load, load_config
from appliance.config_rules import RANGES, all_keys
from appliance.errors import InvalidArgument

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


REGISTRY = "[registry]\nurl = 'https://models.example'\n"
REGISTRY_MISTAKES = [
    # key, its value in TOML, what the message must hold
    ("url", "'models.example'", 'must be https://HOST[:PORT], "layout:" and a folder, or "offline:"'),
    ("url", "'ftp://models.example'", "must be https://HOST[:PORT]"),
    ("url", "'HTTPS://models.example'", "must be https://HOST[:PORT]"),
    ("url", "'https://'", "must be https://HOST[:PORT]"),
    ("url", "'https://models.example:0'", "must be https://HOST[:PORT]"),
    ("url", "'https://models.example:65536'", "must be https://HOST[:PORT]"),
    ("url", "'https://[::g]'", "must be https://HOST[:PORT]"),
    ("url", "'http://[::1'", "must be https://HOST[:PORT]"),
    ("url", r"'https://a.example\.b.example'", "must be https://HOST[:PORT]"),
    ("url", r'"https://a.example\u0000"', "zero byte|must be https://HOST"),
    ("url", f"'https://{'a' * 600}'", "must be https://HOST[:PORT]"),
    ("url", "'https://models.example/plant'", "what follows is written as registry.prefix"),
    ("url", "'https://models.example?a=b'", "what follows is written as registry.prefix"),
    ("url", "'https://user:secret@models.example'", "belong into the file of registry.credentials"),
    ("url", "'http://models.example'", "is not encrypted; write https://"),
    ("url", "'http://10.0.0.1:5000'", "registry.insecure = true"),
    ("url", "'layout:models'", "must be an absolute path"),
    ("mirrors", "['https://models.example']", "is named twice"),
    (
        "mirrors",
        "['https://a.example', 'http://b.example']",
        "registry.mirrors[1]: 'http://b.example' is not encrypted",
    ),
    ("mirrors", str([f"https://m{n}.example" for n in range(17)]), "17 entries, at most 16"),
    ("prefix", "'Plant'", "cannot begin a repository's name"),
    ("prefix", "'a//b'", "cannot begin a repository's name"),
    ("certificate", "'c.pem'", "is set but registry.key is not"),
    ("key", "'k.pem'", "is set but registry.certificate is not"),
    ("proxy", "'proxy.example:3128'", "must be http://HOST:PORT"),
    ("proxy", "'http://user:secret@/'", "'http:///' must be"),
    ("insecure", "'yes'", "must be true or false"),
    ("channel", "''", "the usual one is"),
    ("channel", "'a b'", "is not one word"),
    ("region", "'a/b'", "is not one word"),
    ("hardware", "['cuda', 'a b']", "registry.hardware[1]: 'a b'"),
    ("allow", "['../x']", "registry.allow[0]: '../x'"),
    ("deny", "['']", "registry.deny[0]: ''"),
    ("pins", "['press']", "must be a model and a version"),
    ("pins", "['press=1.0']", "is not a semantic version"),
    ("pins", "['press=1.0.0', 'press=1.0.1']", "press is pinned twice"),
    ("poll_seconds", "0", "0 is not from 1 to 604800"),
    ("windows", "['22:00-05:00', 'sun 9:00-10:00']", "registry.windows[1]: 'sun 9:00-10:00': must be a time"),
    ("windows", f"{['00:00-01:00'] * 65}", "65 entries, at most 64"),
    ("bandwidth_kib_s", "-1", "-1 is not from 0 to"),
    ("parallel", "17", "17 is not from 1 to 16"),
    ("probation_seconds", "604801", "604801 is not from 0 to 604800"),
    ("canary_percent", "101", "101 is not from 0 to 100"),
    ("compare_agreement_min", "1.5", "1.5 is not from 0 to 1"),
]


@pytest.mark.parametrize(("key", "value", "words"), REGISTRY_MISTAKES)
def test_a_mistake_in_the_registrys_keys_is_named(tmp_path, key, value, words):
    file = tmp_path / "appliance.toml"
    file.write_text(f"[registry]\n{key} = {value}\n" if key == "url" else f"{REGISTRY}{key} = {value}\n")
    with pytest.raises(InvalidArgument) as caught:
        load(file)
    assert caught.value.reason == "CONFIG"
    assert caught.value.message.startswith(f"{file}: registry.{key}")
    assert any(word in caught.value.message for word in words.split("|"))
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "url = 'https://models.example:5000/'",
        "url = 'http://127.0.0.1:5000'",
        "url = 'http://[::1]:5000'",
        "url = 'http://localhost:5000'",
        "url = 'http://models.example'\ninsecure = true",
        "url = 'layout:/srv/models'\nmirrors = ['https://models.example', 'layout:/mnt']",
        "proxy = 'http://user:secret@proxy.example:3128'",
        "windows = ['22:00-05:00', 'sat,sun 00:00-24:00']",
        "certificate = 'c.pem'\nkey = 'k.pem'\nca = 'ca.pem'\ncredentials = 'auth.json'",
    ],
)
def test_what_a_registry_may_be(tmp_path, text):
    file = tmp_path / "appliance.toml"
    file.write_text("[registry]\n" + text)
    assert load(file).origins


def test_mirrors_without_a_registry_are_a_mistake(tmp_path):
    file = tmp_path / "appliance.toml"
    file.write_text("[registry]\nmirrors = ['https://a.example']")
    with pytest.raises(InvalidArgument, match=r"registry\.mirrors: are further registries"):
        load(file)


def test_the_registrys_files_start_from_the_file_that_names_them(tmp_path):
    file = tmp_path / "appliance.toml"
    file.write_text("[registry]\ncertificate = 'c.pem'\nkey = '/k.pem'\nca = 'ca.pem'\ncredentials = 'auth.json'")
    found = load(file).config.registry
    folder = str(tmp_path)
    assert (found.certificate, found.key) == (f"{folder}/c.pem", "/k.pem")
    assert (found.ca, found.credentials) == (f"{folder}/ca.pem", f"{folder}/auth.json")
