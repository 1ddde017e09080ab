"""Paths that are credentials of systemd, and files whose secrets others could read."""

from pathlib import Path

import pytest

from appliance import credentials
from appliance.config import Config, RegistryConfig, ServerConfig, TlsConfig
from appliance.config_file import load_config
from appliance.errors import InvalidArgument


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("server.key", "registry.json", "root.json"):
        (tmp_path / name).write_text("secret")
    return tmp_path


def config(key: str = "credential:server.key") -> Config:
    tls = TlsConfig(certificate="/etc/server.pem", key=key)
    registry = RegistryConfig(credentials="credential:registry.json", root="credential:root.json")
    return Config(server=ServerConfig(tls=tls), registry=registry)


def test_names_become_paths(folder: Path) -> None:
    found = credentials.resolve(config(), {"CREDENTIALS_DIRECTORY": str(folder)})
    assert found.server.tls == TlsConfig(certificate="/etc/server.pem", key=f"{folder}/server.key")
    assert found.registry.credentials == f"{folder}/registry.json"
    assert found.registry.root == f"{folder}/root.json"


def test_plain_paths_need_no_service() -> None:
    plain = Config(server=ServerConfig(tls=TlsConfig(certificate="/a", key="/b")))
    assert credentials.resolve(plain, {}) is plain


@pytest.mark.parametrize(
    ("value", "environ", "words"),
    [
        ("credential:server.key", False, "is known to a service of systemd only"),
        ("credential:other", True, "there is no credential other: write LoadCredential=other:/PATH"),
        ("credential:", True, "the name of a credential"),
        ("credential:../server.key", True, "the name of a credential"),
        ("credential:..", True, "the name of a credential"),
        ("credential:a:b", True, "the name of a credential"),
        ("credential:a\nb", True, "the name of a credential"),
    ],
)
def test_what_is_none(folder: Path, value: str, environ: bool, words: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^server\.tls\.key: ") as refused:
        credentials.resolve(config(value), {"CREDENTIALS_DIRECTORY": str(folder)} if environ else {})
    assert words in refused.value.message
    assert refused.value.reason == "CONFIG"


def test_a_credential_is_no_relative_path(tmp_path: Path) -> None:
    file = tmp_path / "appliance.toml"
    file.write_text('[server.tls]\ncertificate = "server.pem"\nkey = "credential:server.key"\n')
    tls = load_config(file).server.tls
    assert (tls.certificate, tls.key) == (f"{tmp_path}/server.pem", "credential:server.key")


@pytest.mark.parametrize(
    ("mode", "refused"),
    [(0o600, False), (0o400, False), (0o640, False), (0o644, True), (0o604, True), (0o660, True), (0o601, True)],
)
def test_files_that_others_can_read(tmp_path: Path, mode: int, refused: bool) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(mode)
    why = credentials.exposed(str(key))
    assert (f"chmod o-rwx,g-w {key}" in why) is refused
    assert bool(why) is refused


@pytest.mark.parametrize(
    ("environ", "state", "runtime"),
    [
        ({"STATE_DIRECTORY": "/var/lib/x", "RUNTIME_DIRECTORY": "/run/x"}, "/var/lib/x", "/run/x"),
        ({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y", "RUNTIME_DIRECTORY": "/run/x"}, "/var/lib/x", "/run/x"),
    ],
)
def test_folders_that_systemd_made(
    environ: dict[str, str], state: str, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert (str(Config().state_dir), str(Config().runtime_dir)) == (state, runtime)
