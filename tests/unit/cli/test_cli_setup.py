"""`appliance setup` as it is typed: what it prints, asks, writes and refuses. README.md's "First run" is typed here too."""

import datetime
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from setup_world import Organisation

from appliance.cli.exit_codes import ExitCode
from appliance.config_file import load

README = Path(__file__).parents[3] / "README.md"
ADDRESS = ("--address", "0.0.0.0:8001")


class Typed(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def etc(tmp_path):
    return tmp_path / "box"


@pytest.fixture
def setup(cli, etc, monkeypatch):
    """Types `appliance setup` for the folder ``etc`` on a machine called box, without a terminal."""
    monkeypatch.setattr("socket.gethostname", lambda: "box")

    def typed(*arguments, **more):
        below = [arguments[0]] if arguments and arguments[0] in ("client", "renew") else []
        return cli("setup", *below, "--config-dir", etc, *arguments[len(below) :], **more)

    return typed


def widest(text):
    """Of all lines but those with a single long word, such as this test's own folders."""
    return max((len(line) for line in text.splitlines() if " " in line.strip().lstrip("- ")), default=0)


def tree(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_first_run_and_again(setup, etc):
    done = setup(*ADDRESS, "--name", "10.1.2.3", "--client", "operator")
    assert (done.code, done.err) == (0, "")
    assert "- the server's certificate and its key, for 10.1.2.3, box, localhost" in done.out
    assert "  appliance doctor --config" in done.out
    assert "grpcurl -cacert ca.pem -cert operator.pem -key operator.key 10.1.2.3:8001" in done.out
    assert '"10.1.2.3:8001", ssl=True, root_certificates="ca.pem",' in done.out
    before = tree(etc)
    assert {path.name for path in before} == {
        *("appliance.toml", "50-setup.toml", "ca.pem", "ca.key", "server.pem", "server.key"),
        *("operator.key", "operator.pem"),
    }
    again = setup(*ADDRESS, "--name", "10.1.2.3", "--client", "operator")
    assert again.code == 0
    assert again.out.startswith("Nothing to do: everything is as it should be.\nLeft as it is:\n")
    assert tree(etc) == before
    assert setup(*ADDRESS, "--json").json["changed"] is False
    assert load(etc / "appliance.toml").config.server.tls.client_ca == str(etc / "ca" / "ca.pem")


def test_dry_run_and_json(setup, etc):
    done = setup(*ADDRESS, "--client", "operator", "--dry-run")
    assert done.out.startswith("Would be done:\n- the authority of this box")
    assert "Next" not in done.out
    assert not etc.exists()
    document = setup(*ADDRESS, "--client", "operator", "--json").json
    assert (document["changed"], document["tls"], document["address"]) == (True, "mutual", "0.0.0.0:8001")
    assert [step["step"] for step in document["steps"]] == [
        *("MakeAuthority", "IssueServer", "IssueClient", "Write", "Write"),
    ]
    assert all(Path(file).exists() for file in document["files"])
    assert "BEGIN" not in json.dumps(document)


def test_the_unit(setup, etc, tmp_path):
    unit = ("--unit-dir", tmp_path / "unit")
    assert setup(*ADDRESS, *unit).code == ExitCode.INVALID_INPUT
    assert setup(*ADDRESS, *unit, "--allow", "10.1.0.0/33").code == ExitCode.INVALID_INPUT
    assert not etc.exists()
    done = setup(*ADDRESS, *unit, "--allow", "10.1.0.0/16")
    assert "  systemctl daemon-reload\n  systemctl restart inference-appliance\n" in done.out
    drop_in = tmp_path / "unit" / "50-generated.conf"
    assert "IPAddressAllow=localhost\nIPAddressAllow=10.1.0.0/16\n" in drop_in.read_text()
    # The service reads the key as a file: what it is not told to load, systemd doesn't.
    assert "LoadCredential" not in drop_in.read_text()
    assert setup(*ADDRESS, *unit).out.startswith("Nothing to do")
    setup(*unit, "--allow", "10.2.0.7")
    assert drop_in.read_text().endswith("IPAddressAllow=10.1.0.0/16\nIPAddressAllow=10.2.0.7\n")
    assert drop_in.with_name("50-generated.conf.bak").exists()
    setup(*unit, "--allow", "none", "--allow", "any")
    assert "IPAddressAllow=10" not in drop_in.read_text()
    assert setup(*unit).out.startswith("Nothing to do")


def test_the_registry(setup, etc, tmp_path, certificates):
    login, root = tmp_path / "login.json", tmp_path / "1.root.json"
    login.write_text("{}")
    login.chmod(0o600)
    root.write_text('{"signed": {"_type": "root"}}')
    flags = ("--registry", "https://192.0.2.9", "--registry-prefix", "plant/north", "--registry-ca", certificates[0])
    unit = ("--unit-dir", tmp_path / "unit", "--allow", "any")
    done = setup(*ADDRESS, *flags, "--registry-credentials", login, "--trust", root)
    assert f"  appliance registry trust {root}" in done.out.replace(" \\\n    ", " ")
    registry = load(etc / "appliance.toml").config.registry
    assert (registry.url, registry.prefix, registry.credentials) == ("https://192.0.2.9", "plant/north", str(login))
    setup(*unit, "--registry-credentials", login)
    # With a unit, systemd reads the password as root and hands it over.
    assert load(etc / "appliance.toml").config.registry.credentials == "credential:registry.credentials"
    drop_in = tmp_path / "unit" / "50-generated.conf"
    assert f"LoadCredential=registry.credentials:{login}" in drop_in.read_text()
    assert setup(*unit).out.startswith("Nothing to do")
    assert "LoadCredential=registry.credentials" in drop_in.read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--registry", "http://r.example"], "is not encrypted; write https://"),
        (["--registry", "https://r.example", "--registry-prefix", "A"], "registry.prefix: 'A' cannot begin"),
        (["--registry-ca", "{folder}/none"], "cannot read {folder}/none: No such file"),
        (["--registry-ca", "{folder}/junk"], "{folder}/junk holds no certificate in PEM"),
        (["--registry-credentials", "{folder}/none"], "cannot read {folder}/none"),
        (
            ["--registry-credentials", "{folder}/junk"],
            "others than its owner and group may read or change {folder}/junk",
        ),
        (["--trust", "{folder}/junk"], "{folder}/junk is no root of trust"),
        (["--trust", "{folder}/list"], "{folder}/list is no root of trust"),
        (["--tls", "off", "--client", "a"], "nobody asks for"),
        (["--certificate", "x"], "missing: --key"),
    ],
)
def test_refused(setup, etc, tmp_path, flags, words):
    (tmp_path / "junk").write_text("junk")
    (tmp_path / "list").write_text("[]")
    done = setup(*ADDRESS, *(flag.format(folder=tmp_path) for flag in flags))
    assert done.code == ExitCode.INVALID_INPUT
    assert words.format(folder=tmp_path) in done.err
    assert not etc.exists()


def test_another_file_that_is_read_later_counts(setup, etc):
    setup(*ADDRESS)
    (etc / "conf.d" / "60-site.toml").write_text("[server]\naddress = '127.0.0.1:9'\n")
    notes = setup(*ADDRESS, "--json").json["notes"]
    assert f"{etc}/conf.d/60-site.toml sets server.address as well, and is read later: that counts" in notes
    (etc / "conf.d" / "50-setup.toml").write_text("nonsense")
    done = setup(*ADDRESS)
    assert (done.code, "is not valid TOML" in done.err) == (ExitCode.INVALID_INPUT, True)


def test_the_organisations_certificate(setup, etc, tmp_path):
    now = datetime.datetime.now(datetime.timezone.utc)
    org = Organisation(tmp_path / "org", "box", now=now)
    flags = [
        *("--certificate", org.paths["server.pem"], "--key", org.paths["server.key"]),
        *("--client-ca", org.paths["clients.pem"], "--server-ca", org.paths["root.pem"]),
    ]
    assert setup(*ADDRESS, *flags).code == 0
    assert setup(*ADDRESS, *flags).out.startswith("Nothing to do")
    assert setup(*ADDRESS).out.startswith("Nothing to do")
    assert load(etc / "appliance.toml").config.server.tls.client_ca == str(etc / "tls" / "client-ca.pem")
    assert not (etc / "ca").exists()
    refused = setup("client", "one")
    assert (refused.code, "your organisation makes their" in refused.err) == (ExitCode.REFUSED, True)
    assert setup("renew").code == ExitCode.INVALID_INPUT
    fresh = Organisation(tmp_path / "org", "box", now=now)
    assert "add --renew to replace it" in setup(*ADDRESS, *flags).err
    assert setup(*ADDRESS, *flags, "--renew").code == 0
    assert (etc / "tls" / "server.key").read_bytes() == fresh.paths["server.key"].read_bytes()


def test_client(setup, etc, tmp_path):
    setup(*ADDRESS, "--name", "box.example")
    done = setup("client", "press-1")
    assert (done.code, widest(done.out) <= 80) == (0, True)
    assert "-key press-1.key box.example:8001" in done.out
    key = etc / "clients" / "press-1" / "press-1.key"
    first = key.read_bytes()
    again = setup("client", "press-1")
    assert (again.code, "give --renew to replace it" in again.err) == (ExitCode.REFUSED, True)
    assert setup("client", "press-1", "--renew").code == 0
    assert key.read_bytes() != first
    (tmp_path / "pass").write_text("secret\nrest\n")
    document = setup(
        "client", "two", "--output", tmp_path / "two", "--pkcs12", "--passphrase-file", tmp_path / "pass", "--json"
    ).json
    assert [Path(file).name for file in document["files"]] == ["two.key", "two.pem", "ca.pem", "two.p12"]
    assert document["folder"] == str(tmp_path / "two")
    assert setup("client", "three", "--pkcs12").code == ExitCode.USAGE
    (tmp_path / "pass").write_text("\n")
    assert "passphrase is empty" in setup("client", "three", "--passphrase-file", tmp_path / "pass").err
    assert setup("client", "a/b").code == ExitCode.INVALID_INPUT
    (tmp_path / "file").touch()
    assert setup("client", "four", "--output", tmp_path / "file" / "below").code == ExitCode.DENIED


def test_client_of_a_server_that_asks_for_none(setup):
    done = setup("client", "one")
    assert (done.code, "run `appliance setup --tls mutual` first" in done.err) == (ExitCode.REFUSED, True)


def test_renew(setup, etc):
    missing = setup("renew")
    assert (missing.code, "run `appliance setup` first" in missing.err) == (ExitCode.INVALID_INPUT, True)
    setup(*ADDRESS)
    certificate, key = etc / "tls" / "server.pem", etc / "tls" / "server.key"
    before = certificate.read_bytes(), key.read_bytes()
    assert setup("renew", "--due").out.startswith("Nothing to do: the server's certificate is good until 20")
    assert (certificate.read_bytes(), key.read_bytes()) == before
    done = setup("renew")
    assert done.out.startswith("The server's certificate is new, and good until 20")
    assert certificate.read_bytes() != before[0]
    assert key.read_bytes() == before[1]
    assert setup("renew", "--new-key", "--json").json["changed"] is True
    assert key.read_bytes() != before[1]


def test_options_before_a_command_are_refused(cli):
    done = cli("setup", "--address", "x:1", "client", "one")
    assert done.code == ExitCode.USAGE
    assert "--address before client has no effect: write appliance setup client ..." in done.err


def test_a_folder_that_cannot_be_written(setup, etc):
    etc.write_text("a file")
    done = setup(*ADDRESS)
    assert done.code in (ExitCode.DENIED, ExitCode.INVALID_INPUT)
    assert str(etc) in done.err


@pytest.fixture
def terminal(etc):
    """Types at a real terminal, all answers at once; what was printed, and the exit status."""

    def typed(*arguments, answers):
        ours, theirs = os.openpty()
        try:
            os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
            done = subprocess.run(
                [sys.executable, "-m", "appliance.cli.main", "setup", "--config-dir", etc, *arguments],
                stdin=theirs,
                capture_output=True,
                text=True,
                timeout=60,
                env={**os.environ, "COLUMNS": "80"},
                check=False,
            )
        finally:
            os.close(ours)
            os.close(theirs)
        return Typed(done.returncode, done.stdout, done.stderr)

    return typed


def test_questions(terminal, etc, tmp_path):
    unit = ("--unit-dir", tmp_path / "unit")
    answers = [
        *("8001", "0.0.0.0:8001"),
        *("", "10.1.0.0/33", "10.1.0.0/16, 10.2.0.7"),
        *("none of it", ""),
        *("bad name!", "box.example 10.1.2.3"),
        *("a/b", ""),
        "",
        "y",
    ]
    done = terminal(*unit, answers=answers)
    assert (done.code, done.err) == (0, "")
    for words in (
        'expected "host:port"',
        "the service answers only networks that it is told",
        '"10.1.0.0/33" is neither',
        '"own" makes them here',
        "neither a host's name",
        "begins with a letter or digit",
        "This will be done:\n- the authority of this box",
    ):
        assert words in done.out
    assert (etc / "clients" / "operator" / "operator.key").exists()
    assert "IPAddressAllow=10.2.0.7" in (tmp_path / "unit" / "50-generated.conf").read_text()
    # What held before is what Enter takes, and then there is nothing to confirm.
    again = terminal(*unit, answers=["", "", ""])
    assert (again.code, again.out.count("Nothing to do")) == (0, 1)


def test_questions_for_the_organisations(terminal, etc, tmp_path):
    org = Organisation(tmp_path / "org", "box", now=datetime.datetime.now(datetime.timezone.utc))
    files = [str(org.paths[name]) for name in ("server.pem", "server.key", "clients.pem")]
    answers = ["", "org", "none", *files, "box", "https://r.example", "a/b", "", "", "", "y"]
    done = terminal(answers=answers)
    assert (done.code, done.err) == (0, "")
    assert "there is no file none" in done.out
    assert load(etc / "appliance.toml").config.registry.prefix == "a/b"
    assert (etc / "tls" / "client-ca.pem").read_bytes() == org.paths["clients.pem"].read_bytes()


def test_no_is_no(terminal, etc):
    done = terminal("--address", "127.0.0.1:8001", answers=["", "n"])
    assert (done.code, "nothing was changed" in done.err, etc.exists()) == (ExitCode.REFUSED, True, False)


def test_the_end_of_input_changes_nothing(terminal, etc):
    done = terminal(answers=["0.0.0.0:8001", "\x04"])
    assert (done.code, etc.exists()) == (ExitCode.INTERRUPTED, False)


def first_run() -> list[list[str]]:
    """The `appliance setup` commands of README.md's section, the only ones there that change files."""
    section = re.search(r"^## First run\n(.*?)^## ", README.read_text(), re.DOTALL | re.MULTILINE)
    assert section is not None
    lines = [line.partition("  #")[0].strip() for line in section[1].replace("\\\n", " ").splitlines()]
    return [shlex.split(line.removeprefix("sudo ")) for line in lines if line.startswith(("sudo ", "appliance "))]


def test_every_command_of_the_readme(setup, cli, etc, tmp_path):
    org = Organisation(tmp_path, "box.plant.example", now=datetime.datetime.now(datetime.timezone.utc))
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        commands = first_run()
        for command in commands:
            if command[:2] == ["appliance", "setup"]:
                done = setup(*[str(org.paths.get(word, word)) for word in command[2:]])
                assert (done.code, done.err) == (0, ""), command
            elif command[:2] == ["appliance", "doctor"]:
                done = cli("doctor", "--config", etc / "appliance.toml", "--json")
                levels = {(c["name"], c["level"]) for c in done.json["checks"]}
                assert ("certificate", "ok") in levels
                assert not {(name, "bad") for name in ("configuration", "tls", "certificate", "secrets")} & levels
            else:
                assert command[0] == "systemctl", command
    finally:
        os.chdir(here)
    assert sum(command[:2] == ["appliance", "setup"] for command in commands) >= 4


def test_a_new_authority_shuts_out_all_that_the_old_one_signed(setup, etc):
    setup(*ADDRESS, "--client", "one")
    for name in ("ca", "tls", "clients"):
        (etc / name).rename(etc / f"{name}.old")
    done = setup("--client", "one")
    assert (done.code, "- the authority of this box" in done.out) == (0, True)
    assert (etc / "ca" / "ca.pem").read_bytes() != (etc / "ca.old" / "ca.pem").read_bytes()
