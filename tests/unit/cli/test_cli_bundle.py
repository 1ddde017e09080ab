"""`appliance bundle export`, `bundle import` and `publish fleet` as typed."""

import json
from pathlib import Path

import grpc
import pytest
import sticks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.cli import bundle
from appliance.cli.exit_codes import ExitCode
from appliance.pb.appliance.v1 import admin_pb2 as pb
from appliance.registry.bundle import return_format
from appliance.registry.bundle.return_format import LineReport, Report, RoleReport

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
INSTALLED = pb.SyncLine(line="press", version="2.0.0", state="installed")
REFUSED = pb.SyncLine(line="vad", version="7.0.0", state="refused", reason="its golden test \x1b[31mfailed")


@pytest.fixture
def world(daemon):
    return daemon.world


@pytest.fixture
def visited(world, monkeypatch):
    """The daemon imports: it says that it is at it so many times, and then how it ended."""

    def ends(**visit):
        at_it = pb.SyncResponse(registry="offline:", visiting="/s", doing="fetching", done_bytes=1, total_bytes=2)
        ended = pb.SyncResponse(registry="offline:", visit=pb.Visit(path="/s", ended_ms=5, **visit))
        world.answers = [at_it, at_it, ended]

    monkeypatch.setattr(bundle, "_LOOK_S", 0.001)
    return ends


def test_an_import_is_followed_to_its_end(ask, world, visited):
    visited(lines=[INSTALLED], returned="/s/return/a.json")
    done = ask("bundle", "import", "/s")
    assert done.code == 0
    assert world.requests[0] == pb.VisitRequest(path="/s")
    assert "imported /s\n" in done.out
    assert "press" in done.out
    assert "goes back with the stick: /s/return/a.json" in done.out
    assert "fetching" in done.err
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("visit", "code", "words"),
    [
        ({"lines": [INSTALLED, REFUSED]}, ExitCode.REFUSED, "its golden test [31mfailed"),
        ({"error": "the stick is gone"}, ExitCode.UNAVAILABLE, "/s could not be imported: the stick is gone"),
        ({"not_returned": "it is read-only"}, ExitCode.OK, "No status goes back with the stick: it is read-only"),
    ],
)
def test_how_it_ended_is_in_the_exit_status(ask, visited, visit, code, words):
    visited(**visit)
    done = ask("bundle", "import", "/s")
    assert done.code == code
    assert words in " ".join(done.out.split())
    visited(**visit)
    done = ask("bundle", "import", "/s", "--json")
    assert done.code == code
    assert done.json["visit"]["path"] == "/s"


def test_a_relative_path_is_the_callers(ask, world, visited, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    visited()
    assert ask("bundle", "import", "stick").code == 0
    assert world.requests[0].path == str(tmp_path / "stick")


def test_without_waiting(ask, world):
    done = ask("bundle", "import", "/s", "--no-wait")
    assert (done.code, len(world.requests)) == (0, 1)
    assert "see `appliance sync status`" in done.out


def test_a_sync_process_that_died_is_noticed(ask, world, monkeypatch):
    monkeypatch.setattr(bundle, "_LOOK_S", 0.001)
    monkeypatch.setattr(bundle, "_LOST_S", 0.05)
    world.answers = [pb.SyncResponse(registry="offline:")]
    done = ask("bundle", "import", "/s")
    assert done.code == ExitCode.UNAVAILABLE
    assert "broke off" in done.err


def test_what_the_daemon_refuses(ask, world):
    world.fail_with = (grpc.StatusCode.FAILED_PRECONDITION, "/s is no OCI layout")
    done = ask("bundle", "import", "/s")
    assert done.code == ExitCode.REFUSED
    assert "/s is no OCI layout" in done.err


# --- export ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path) -> Path:
    """A registry in a folder, and the root of its publisher beside it."""
    desk = sticks.desk(tmp_path / "hq")
    sticks.exported(desk, tmp_path / "registry")
    (tmp_path / "root.json").write_bytes(desk.root())
    return tmp_path / "registry"


def test_an_export_says_what_it_carries(cli, registry, tmp_path):
    arguments = ("--registry", registry, "--prefix", "acme", "--root", tmp_path / "root.json")
    done = cli("bundle", "export", tmp_path / "stick", *arguments)
    assert done.code == 0, done.err
    assert "press" in done.out
    assert "1.0.0" in done.out
    assert "acme: good until 20" in done.out
    assert "(soon: expiry_days" in done.out  # a timestamp of a day
    assert "press:1.0.0" in done.err  # progress
    document = cli("bundle", "export", tmp_path / "stick", *arguments, "--json").json
    (prefix,) = document["prefixes"]
    assert prefix["releases"][0]["version"] == "1.0.0"
    assert prefix["stick_bytes"] > prefix["bytes"] > 0


def test_without_a_root_it_is_said(cli, registry, tmp_path):
    done = cli("bundle", "export", tmp_path / "stick", "--registry", f"layout:{registry}", "--prefix", "acme")
    assert done.code == 0, done.err
    assert "--root names one you trust" in done.err


def test_from_the_publishers_own_folder(cli, tmp_path):
    desk = sticks.desk(tmp_path / "hq")
    sticks.exported(desk, tmp_path / "registry")
    desk.workspace.close()
    toml = tmp_path / "hq/publisher/publish.toml"
    toml.write_text(toml.read_text().replace('url = ""', f'url = "{tmp_path}/registry"'))
    done = cli("bundle", "export", tmp_path / "stick", "--folder", tmp_path / "hq/publisher", "--line", "press")
    assert done.code == 0, done.err
    assert "--root" not in done.err
    assert "press" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--registry", "R"), ExitCode.USAGE, "needs --prefix"),
        (("--registry", "R", "--prefix", "acme", "--prefix", "b", "--root", "r"), ExitCode.USAGE, "one --prefix"),
        (("--registry", "R", "--prefix", "acme", "--root", "nothing"), ExitCode.INVALID_INPUT, "No such file"),
        (("--registry", "R", "--prefix", "acme", "--line", "vad"), ExitCode.NOT_FOUND, "nothing of vad"),
        (("--registry", "R", "--prefix", "other"), ExitCode.NOT_FOUND, "other/tuf"),
        (("--registry", "nothing", "--prefix", "acme"), ExitCode.NOT_FOUND, "index.json"),
        (("--folder", "nothing"), ExitCode.NOT_FOUND, "no publisher's folder"),
    ],
)
def test_exports_that_cannot_be(cli, registry, tmp_path, arguments, code, words):
    done = cli("bundle", "export", tmp_path / "stick", *(registry if a == "R" else a for a in arguments))
    assert done.code == code
    assert words in done.err
    assert not (tmp_path / "stick").exists()


# --- the way back ---------------------------------------------------------------------------------------------------


def put(stick: Path, device: str, counter: int = 5) -> Path:
    lines = (LineReport("press", "1.0.0", wanted="2.0.0", state="refused", reason="too \x1b[31mslow"),)
    report = Report(
        device, counter, 1_800_000_000, "0.1.0", "", lines, (RoleReport("root", 2, 1_900_000_000),), ("clock",)
    )
    (stick / "return").mkdir(parents=True, exist_ok=True)
    path = stick / "return" / f"{device}.json"
    path.write_bytes(return_format.encode(report, KEY))
    return path


def test_a_fleet_from_new_to_known(cli, tmp_path):
    path = put(tmp_path / "stick", "ward-7-with-a-very-long-name")
    known = ("--known", tmp_path / "fleet.json")
    done = cli("publish", "fleet", tmp_path / "stick", *known)
    assert done.code == 0, done.err
    assert "new" in done.out
    assert "press 1.0.0 -> 2.0.0 refused" in " ".join(done.out.split())
    assert "too [31mslow" in done.out
    assert "clock" in done.out
    assert "--enrol" in done.out
    assert max(len(line) for line in done.out.splitlines() if "ward" not in line[3:]) <= 80
    assert not (tmp_path / "fleet.json").exists()
    assert "enrolled" in cli("publish", "fleet", tmp_path / "stick", *known, "--enrol").out
    document = cli("publish", "fleet", path, *known, "--json").json
    assert [(row["device"][:6], row["verdict"]) for row in document["machines"]] == [("ward-7", "known")]
    put(tmp_path / "stick", "ward-7-with-a-very-long-name", 4)
    done = cli("publish", "fleet", tmp_path / "stick", *known)
    assert done.code == ExitCode.REFUSED
    assert "older" in done.out
    assert "5 was seen already" in done.out


def test_the_publishers_folder_remembers(cli, tmp_path):
    desk = sticks.desk(tmp_path / "hq")
    desk.workspace.close()
    put(tmp_path / "stick", "a")
    arguments = ("publish", "fleet", tmp_path / "stick", "--folder", tmp_path / "hq/publisher")
    assert cli(*arguments, "--enrol").code == 0
    remembered = json.loads((tmp_path / "hq/publisher/fleet.json").read_text())
    assert remembered["machines"]["a"]["counter"] == 5
    path = tmp_path / "stick/return/a.json"
    path.write_bytes(path.read_bytes().replace(b"0.1.0", b"0.1.1"))
    done = cli(*arguments)
    assert done.code == ExitCode.REFUSED
    assert "forged" in done.out


def test_nothing_came_back(cli, tmp_path):
    (tmp_path / "stick").mkdir()
    done = cli("publish", "fleet", tmp_path / "stick", "--known", tmp_path / "fleet.json")
    assert (done.code, "There is no status" in done.out) == (0, True)
