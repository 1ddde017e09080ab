"""`appliance config check` and `show`."""

import pytest

from appliance.cli.exit_codes import ExitCode


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "appliance.toml"
    made.write_text("[server]\nthreads = 9\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "1.toml").write_text("[models]\nrequired = ['iris']\n")
    return made


def test_check(cli, file):
    done = cli("config", "check", "--config", file)
    assert (done.code, done.out) == (0, f"ok: {file}, {file.parent}/conf.d/1.toml; 2 keys set\n")
    document = cli("config", "check", "--config", file, "--json").json
    assert document["set"] == {"server.threads": str(file), "models.required": f"{file.parent}/conf.d/1.toml"}


def test_check_without_a_file(cli):
    assert cli("config", "check").out == "ok: no file, the defaults hold; 0 keys set\n"


def test_check_bad(cli, file):
    file.write_text("[server]\nthreads = 0\n")
    done = cli("config", "check", "--config", file)
    assert done.code == ExitCode.INVALID_INPUT
    assert done.err == f"appliance: {file}: server.threads: 0 is not from 1 to 4096 (threads)\n"
    assert done.out == ""


def test_check_looks_at_the_certificates(cli, file, certificates):
    _, certificate, key = certificates
    file.write_text(f"[server.tls]\ncertificate = '{certificate}'\nkey = 'none.pem'\n")
    done = cli("config", "check", "--config", file)
    assert done.code == ExitCode.INVALID_INPUT
    assert f"{file.parent}/none.pem: No such file or directory" in done.err
    file.write_text(f"[server.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n")
    assert cli("config", "check", "--config", file).code == 0


def test_config_by_environment(cli, file, monkeypatch):
    monkeypatch.setenv("APPLIANCE_CONFIG", str(file))
    assert "2 keys set" in cli("config", "check").out


def test_show(cli, file):
    done = cli("config", "show", "--config", file)
    assert max(map(len, done.out.splitlines())) <= 80
    row = next(line for line in done.out.splitlines() if line.startswith("server.max_message_mib"))
    assert row.split() == ["server.max_message_mib", "64", "default"]
    assert '["iris"]' in done.out


def test_show_json(cli, file):
    document = cli("config", "show", "--config", file, "--json").json
    assert document["config"]["server"]["threads"] == 9
    assert document["config"]["models"]["required"] == ["iris"]
    assert document["from"]["server.threads"] == str(file)
    assert document["effective"]["unix_socket"].endswith("appliance.sock")
