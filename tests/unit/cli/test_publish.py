"""`appliance publish ...` as typed: one publisher from init to rotation, three signers, and what goes wrong."""

import sys

import model_folders
import pytest
from memory_registry import MemoryRegistry
from terminal import Typed

from appliance.cli.exit_codes import ExitCode
from appliance.publish.release import connect
from appliance.publish.release.upload import Registry

SECRET = "correct horse battery"


@pytest.fixture
def remote(monkeypatch):
    """The registry in memory; the folders' layouts are real."""
    memory = MemoryRegistry()
    registry = Registry("https://registry.example", memory, memory)
    monkeypatch.setattr(connect, "registry", lambda _settings, _base: registry)
    return memory


@pytest.fixture
def publish(cli, remote, monkeypatch, tmp_path):
    monkeypatch.setenv("APPLIANCE_PUBLISH_PASSPHRASE", SECRET)
    monkeypatch.setenv("APPLIANCE_PUBLISHER", str(tmp_path / "publisher"))

    def typed(*arguments: object, **more: bytes):
        return cli("publish", *arguments, **more)

    return typed


@pytest.fixture
def begun(publish):
    done = publish("init", "--prefix", "acme", "--registry", "https://registry.example")
    assert done.code == 0, done.err
    assert publish("line", "add", "press").code == 0
    return publish


def test_from_init_to_withdrawal(begun, remote, tmp_path):
    folder = model_folders.make(tmp_path / "m")
    done = begun("pack", folder)
    assert (done.code, "press 1.0.0: 8 files" in done.out) == (0, True)
    done = begun("release", "press", "1.0.0", "--channel", "candidate", "--wave", "1,100", "--wave-hours", "6")
    assert done.code == 0, done.err
    assert "press: 1.0.0 is released to candidate in waves of 1%, 100%" in done.out
    assert "https://registry.example: 3 metadata files sent" in done.out
    assert remote.puts[-1] == "timestamp.json"
    done = begun("status")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "registry: current" in done.out
    assert begun("withdraw", "press", "1.0.0", "--json").json["sent"][0] == "3.models.press.json"
    assert begun("push").out == "https://registry.example has everything\n"
    assert begun("push", "press", "1.0.0").out.endswith("0 blobs sent, 0 B\n")


def test_a_folder_as_the_registry(cli, tmp_path, monkeypatch):
    """Nothing is replaced by a simulator: an OCI layout beside the publisher's folder, as for a stick."""
    from appliance.registry.sources.layout import LayoutSource

    monkeypatch.setenv("APPLIANCE_PUBLISH_PASSPHRASE", SECRET)
    folder = tmp_path / "publisher"

    def publish(*arguments: object):
        done = cli("publish", *arguments, "--folder", folder)
        assert done.code == 0, done.err
        return done

    publish("init", "--prefix", "acme", "--registry", "../site")
    publish("line", "add", "press")
    publish("pack", model_folders.make(tmp_path / "m"))
    publish("pack", tmp_path / "m")
    publish("release", "press", "1.0.0")
    assert publish("push").out.endswith("has everything\n")
    assert publish("status", "--json").json["registry"] == "current"
    site = LayoutSource(tmp_path / "site")
    assert site.tags("acme/models/press") == ["1.0.0"]
    assert {"1.root.json", "timestamp.json", "2.models.press.json"} <= set(site.tags("acme/tuf"))


def test_documents(begun, tmp_path):
    packed = begun("pack", model_folders.make(tmp_path / "m"), "--json").json
    assert packed["made"] == ["MODEL_CARD.md", "ml-bom.cdx.json", "model.toml"]
    released = begun("release", "press", "1.0.0", "--no-push", "--json").json
    assert (released["current"], released["missing"], released["sent"]) == (True, [], [])
    status = begun("status", "--json").json
    assert status["registry"] == "behind"
    assert status["releases"][0]["digest"] == packed["digest"]
    assert begun("refresh", "--json").json["sent"][-1] == "timestamp.json"
    assert begun("rotate", "timestamp", "--json").json["current"]
    assert begun("fetch", "--json").json["changed"] is False
    assert "In no role any more" in begun("status").out


def test_init_shows_fingerprints(publish):
    done = publish("init")
    assert done.out.count("root\n") == 3
    assert "Signed, and current" in done.out
    again = publish("init")
    assert (again.code, "is initialised" in again.err) == (ExitCode.REFUSED, True)


def test_three_people(begun, tmp_path):
    """Ben's key comes into the root by rotation, and then he signs in a folder of his own."""
    ben = tmp_path / "ben"
    registry = ("--prefix", "acme", "--registry", "https://registry.example")
    made = begun("key", "root", "--folder", ben, *registry, "--json").json
    assert begun("rotate", "root", "--new", made["public_file"]).code == 0
    assert begun("fetch", "--folder", ben).code == ExitCode.REFUSED
    root = tmp_path / "publisher" / "metadata" / "1.root.json"
    assert begun("fetch", "--root", root, "--folder", ben).code == 0
    role = next(role for role in begun("status", "--json").json["roles"] if role["role"] == "root")
    anna = next(key["keyid"] for key in role["keys"] if key["here"])
    (tmp_path / "publisher" / "keys" / f"root.{anna[:16]}.pem").unlink()
    assert "Waits: root has 1 of 2 signatures" in begun("refresh", "root").out
    request, signature = tmp_path / "request.json", tmp_path / "ben.sig"
    assert begun("request", "-o", request).code == 0
    assert begun("request").out == request.read_text()
    assert "Waits for signatures" in begun("status").out
    done = begun("sign", request, "-o", signature, "--folder", ben, "--yes")
    assert done.code == 0, done.err
    assert "root: version 2 -> 3" in done.err
    done = begun("combine", request, signature)
    assert done.code == 0, done.err
    assert begun("status", "--json").json["waiting"] is None


def test_a_signer_may_say_no(begun, tmp_path, monkeypatch):
    keys = sorted((tmp_path / "publisher" / "keys").glob("root.*.pem"))
    for path in keys[:2]:
        path.rename(tmp_path / path.name)
    begun("refresh", "root")
    request = tmp_path / "request.json"
    begun("request", "-o", request)
    for path in keys[:2]:
        (tmp_path / path.name).rename(path)
    done = begun("sign", request, stdin=b"n\n")
    assert (done.code, "not signed" in done.err, done.out.strip()) == (ExitCode.REFUSED, True, "")
    assert begun("request", "--discard").code == 0
    assert begun("request").code == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("release", "press", "9.9.9"), ExitCode.NOT_FOUND, "not packed"),
        (("release", "iris", "1.0.0"), ExitCode.NOT_FOUND, "line add iris"),
        (("release", "press", "1.0.0", "--wave", "5,1"), ExitCode.INVALID_INPUT, "waves"),
        (("withdraw", "press", "1.0.0"), ExitCode.NOT_FOUND, "not released"),
        (("rotate", "models.iris"), ExitCode.NOT_FOUND, "no role"),
        (("pack", "/nowhere"), ExitCode.INVALID_INPUT, "model.toml"),
        (("push", "press"), ExitCode.USAGE, "name a version"),
        (("line", "add", "press"), ExitCode.REFUSED, "there already"),
        (("combine", "/nowhere", "/nowhere"), ExitCode.NOT_FOUND, "nowhere"),
        (("status", "--folder", "/nowhere"), ExitCode.NOT_FOUND, "publish init"),
        (("nonsense",), ExitCode.USAGE, "nonsense"),
    ],
)
def test_refusals(begun, arguments, code, text):
    done = begun(*arguments)
    assert (done.code, text in done.err) == (code, True), done.err


def test_wrong_passphrase(begun, monkeypatch):
    monkeypatch.setenv("APPLIANCE_PUBLISH_PASSPHRASE", "quite another one")
    done = begun("refresh", "--json")
    assert (done.code, "wrong passphrase" in done.err) == (ExitCode.DENIED, True)
    assert done.json["error"]["exit_status"] == ExitCode.DENIED


def test_a_key_that_others_may_read(begun, tmp_path):
    for path in (tmp_path / "publisher" / "keys").glob("timestamp.*.pem"):
        path.chmod(0o644)
    done = begun("refresh")
    assert (done.code, "chmod 600" in done.err) == (ExitCode.DENIED, True)


def test_passphrase_from_a_file(begun, tmp_path, monkeypatch):
    monkeypatch.delenv("APPLIANCE_PUBLISH_PASSPHRASE")
    file = tmp_path / "passphrase"
    file.write_text(SECRET + "\nmore\n")
    file.chmod(0o644)
    assert begun("refresh", "--passphrase-file", file).code == ExitCode.DENIED
    file.chmod(0o600)
    assert begun("refresh", "--passphrase-file", file).code == 0
    assert begun("refresh", "--passphrase-file", tmp_path / "none").code == ExitCode.INVALID_INPUT


def test_no_terminal_to_ask(begun, monkeypatch):
    monkeypatch.delenv("APPLIANCE_PUBLISH_PASSPHRASE")
    done = begun("refresh")
    assert (done.code, "--passphrase-file" in done.err) == (ExitCode.USAGE, True)


def test_passphrase_at_the_terminal(tmp_path):
    """A new one twice, and it is not shown."""
    folder = tmp_path / "publisher"
    with Typed("publish", "key", "root", "--folder", folder) as person:
        person.expect("Passphrase for new keys (root)")
        person.type(SECRET + "\r")
        person.expect("Repeat")
        person.type(SECRET + "\r")
        person.expect("Hand on the public file")
        assert person.leaves() == 0
        assert SECRET not in person.seen
    assert len(list(folder.glob("keys/root.*.pem"))) == 1
    with Typed("publish", "key", "root", "--folder", tmp_path / "other") as person:
        person.expect("Passphrase")
        person.type(SECRET + "\r")
        person.expect("Repeat")
        person.type("something else\r")
        assert person.leaves() == ExitCode.INVALID_INPUT


def test_a_registry_that_goes_away_loses_nothing(begun, remote, tmp_path):
    remote.fail_at = remote.writes + 1
    done = begun("refresh")
    assert (done.code, "goes on from here" in done.err) == (ExitCode.UNAVAILABLE, True)
    remote.fail_at = 0
    assert begun("push").code == 0
    assert begun("status", "--json").json["registry"] == "current"


def test_missing_library_says_what_to_install(begun, monkeypatch):
    monkeypatch.setitem(sys.modules, "appliance.publish.release.session", None)
    done = begun("status")
    assert (done.code, "inference-appliance[publish]" in done.err) == (ExitCode.FAILED, True)


def test_help_loads_nothing_heavy():
    import subprocess

    code = "import sys, appliance.cli.app; print(*({'tuf', 'cryptography', 'securesystemslib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_of_line_has_an_example(cli):
    assert "Example: appliance publish line add" in cli("publish", "line", "add", "--help").out
