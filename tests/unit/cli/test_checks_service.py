"""What doctor says of the systemd service: in a made-up root with the unit as it is shipped, and systemctl's answers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.cli import checks_service
from appliance.cli import service_drop_in as drop_ins
from appliance.cli.checks_service import check_service
from appliance.config import Config, RegistryConfig, ServerConfig, TlsConfig
from appliance.config_file import Loaded

UNIT = Path(__file__).parents[3] / "packaging" / "systemd" / "inference-appliance.service"
HERE = Config()
OPEN = Config(server=ServerConfig(address="0.0.0.0:8001", insecure=True))


@pytest.fixture
def root(tmp_path):
    """A machine with the unit installed, where systemd doesn't run."""
    folder = tmp_path / "lib/systemd/system"
    folder.mkdir(parents=True)
    shutil.copy(UNIT, folder)
    return tmp_path


def drop_in(root, text, name="50-generated.conf", folder="etc/systemd/system"):
    file = root / folder / "inference-appliance.service.d" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def generated(config, *allow):
    return drop_ins.render(drop_ins.plan(config, allow, False), [])


def found(root, config, show=None):
    checks = check_service(Loaded(config, (), {}), root, show)
    return [(check.name, check.level, check.found) for check in checks]


def test_no_unit_or_another_configuration(root, tmp_path):
    assert found(tmp_path / "none", OPEN) == []
    other = Loaded(OPEN, (tmp_path / "appliance.toml",), {})
    assert list(check_service(other, root)) == []
    ours = Loaded(OPEN, (Path("/etc/inference-appliance/appliance.toml"),), {})
    assert list(check_service(ours, root)) != []


def test_the_unit_as_shipped(root):
    assert found(root, HERE) == [("networks", "ok", "the unit lets it reach localhost")]
    (bad,) = check_service(Loaded(OPEN, (), {}), root)
    assert (bad.level, "answers none of them" in bad.found) == ("bad", True)
    assert bad.advice.startswith("appliance setup --allow NETWORK, then systemctl daemon-reload")


def test_with_the_drop_in_that_setup_makes(root):
    drop_in(root, generated(OPEN, "10.1.0.0/16"))
    assert found(root, OPEN) == [("networks", "ok", "the unit lets it reach localhost, 10.1.0.0/16")]
    drop_in(root, generated(OPEN, "any"))
    assert found(root, OPEN) == [("networks", "ok", "the unit lets it reach every network")]
    # The last name wins, and an administrator's file over the one of the same name elsewhere.
    drop_in(root, "[Service]\nIPAddressAllow=\nIPAddressDeny=any\n", "90-site.conf")
    assert found(root, OPEN)[0][1] == "bad"
    drop_in(root, "[Service]\nIPAddressAllow=10.0.0.0/8 192.0.2.1\n", "90-site.conf", "run/systemd/system")
    assert found(root, OPEN)[0][1] == "bad"


@pytest.mark.parametrize(
    ("url", "allow", "level"),
    [
        ("https://192.0.2.9", "192.0.2.0/24", None),
        ("https://192.0.2.9:5000", "10.1.0.0/16", "bad"),
        ("https://reg.example", "10.1.0.0/16", None),  # what it resolves to only the resolver knows
        ("https://reg.example", "", "bad"),
        ("https://127.0.0.1:5000", "", None),
        ("layout:/srv/models", "", None),
        ("offline:", "", None),
    ],
)
def test_registry(root, url, allow, level):
    config = Config(registry=RegistryConfig(url=url))
    if allow:
        drop_in(root, f"[Service]\nIPAddressAllow={allow}\n")
    levels = [each for name, each, words in found(root, config) if "does not let it reach" in words]
    assert levels == ([level] if level else [])


def test_a_proxy_stands_for_the_registry(root):
    config = Config(registry=RegistryConfig(url="https://192.0.2.9", proxy="http://10.1.0.1:3128"))
    drop_in(root, "[Service]\nIPAddressAllow=10.1.0.1\n")
    assert [level for _, level, _ in found(root, config)] == ["ok"]


def test_credentials(root, tmp_path):
    config = Config(registry=RegistryConfig(credentials="credential:login"))
    name, level, words = found(root, config)[-1]
    assert (name, level) == ("credentials", "bad")
    assert words == "registry.credentials is credential:login, which the unit does not load"
    drop_in(root, f"[Service]\nLoadCredential=login:{tmp_path}/login\n")
    missing = [words for name, _, words in found(root, config) if name == "credentials"]
    assert missing == ([f"registry.credentials: {tmp_path}/login is not there"] if os.geteuid() == 0 else [])
    (tmp_path / "login").touch()
    assert [level for _, level, _ in found(root, config)] == ["ok"]


@pytest.mark.parametrize(
    ("mode", "user", "group", "bad"),
    [(0o640, -1, 0, False), (0o600, -1, 0, True), (0o640, -1, 1, True), (0o600, 0, 1, False), (0o040, 0, 1, True)],
)
def test_the_key_that_the_service_reads(root, tmp_path, monkeypatch, mode, user, group, bad):
    """``user``, ``group``: the service's, less those of the file."""
    key = tmp_path / "server.key"
    key.touch()
    key.chmod(mode)
    stat = key.stat()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", lambda name: type("P", (), {"pw_uid": stat.st_uid + user}))
    monkeypatch.setattr("grp.getgrnam", lambda name: type("G", (), {"gr_gid": stat.st_gid + group}))
    config = Config(server=ServerConfig(tls=TlsConfig(certificate="x", key=str(key))))
    assert [level for name, level, _ in found(root, config) if name == "secrets"] == (["bad"] if bad else [])


ACTIVE = {
    "ActiveState": "active",
    "StatusText": "2 of 2 models are ready",
    "NeedDaemonReload": "no",
    "Result": "success",
}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ACTIVE, [("ok", "active: 2 of 2 models are ready")]),
        ({**ACTIVE, "ActiveState": "inactive"}, [("warn", "it does not run")]),
        (
            {**ACTIVE, "ActiveState": "failed", "Result": "exit-code", "StatusText": ""},
            [("bad", "failed (exit-code)")],
        ),
        ({**ACTIVE, "ActiveState": "activating"}, [("warn", "activating: 2 of 2 models are ready")]),
        (
            {**ACTIVE, "NeedDaemonReload": "yes"},
            [
                ("warn", "its unit or a drop-in has changed since it was started"),
                ("ok", "active: 2 of 2 models are ready"),
            ],
        ),
    ],
)
def test_active(root, answer, expected):
    assert [name for name, _, _ in found(root, HERE, lambda _: answer)] == ["networks"]
    (root / "run/systemd/system").mkdir(parents=True)
    assert [row[1:] for row in found(root, HERE, lambda _: answer) if row[0] == "service"] == expected


@pytest.mark.parametrize("error", [FileNotFoundError("systemctl"), subprocess.TimeoutExpired("systemctl", 10)])
def test_a_systemctl_that_does_not_answer(root, error):
    def show(_):
        raise error

    (root / "run/systemd/system").mkdir(parents=True)
    assert found(root, HERE, show)[-1][:2] == ("service", "warn")


def test_systemctl_is_asked_for_properties(tmp_path, monkeypatch):
    fake = tmp_path / "systemctl"
    fake.write_text('#!/bin/sh\necho "ActiveState=active"\necho "StatusText=$1 $2 $3"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert checks_service._show(("ActiveState", "StatusText")) == {
        "ActiveState": "active",
        "StatusText": "show inference-appliance.service --property=ActiveState,StatusText",
    }
