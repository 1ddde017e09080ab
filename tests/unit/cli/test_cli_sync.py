"""`appliance sync ...` and `appliance registry ...` against a simulated daemon."""

from pathlib import Path

import grpc
import pytest

from appliance.cli.exit_codes import ExitCode
from appliance.pb.appliance.v1 import admin_pb2 as pb

LINES = [
    pb.SyncLine(line="press", version="2.0.0", state="installed"),
    pb.SyncLine(line="vad", version="7.1.0", state="waiting", reason="its wave opens at 22:00", fetch_bytes=3 << 20),
]
STATUS = pb.SyncResponse(
    registry="https://models.example", polled_ms=1_700_000_000_000, next_ms=1_700_003_600_000, lines=LINES
)
ROOT = pb.TrustRootResponse(
    version=1,
    expires_ms=1_800_000_000_000,
    roles=[pb.TrustKeys(role="root", threshold=2, fingerprints=["ab" * 32, "cd" * 32, "ef" * 32])],
    outcome="installed",
)


@pytest.fixture
def world(daemon):
    return daemon.world


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "1.root.json").write_bytes(b'{"a": "root"}')
    return tmp_path / "1.root.json"


def test_the_status_says_what_and_why(ask, world):
    world.sync.CopyFrom(STATUS)
    done = ask("sync", "status")
    assert done.code == 0
    assert "registry https://models.example\n" in done.out
    assert "polled 20" in done.out
    assert "its wave opens at 22:00" in done.out
    assert "3 MiB" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    document = ask("sync", "status", "--json").json
    assert [line["state"] for line in document["lines"]] == ["installed", "waiting"]


def test_without_a_network_it_says_how_releases_come(ask, world):
    world.sync.CopyFrom(pb.SyncResponse(registry="offline:"))
    assert "appliance bundle import brings releases" in ask("sync", "status").out


def test_no_registry(ask):
    done = ask("sync", "status")
    assert done.code == 0
    assert "no registry is configured" in done.out


def test_a_failed_poll_has_an_exit_status_of_its_own(ask, world):
    world.sync.CopyFrom(pb.SyncResponse(registry="https://x", error="models.example cannot be reached", polled_ms=1))
    done = ask("sync", "status")
    assert done.code == ExitCode.UNAVAILABLE
    assert "failed: models.example cannot be reached" in done.out


def test_alarms_and_what_goes_on(ask, world):
    world.sync.CopyFrom(STATUS)
    world.sync.alarms.append("the timestamp expires tomorrow")
    world.sync.doing, world.sync.done_bytes, world.sync.total_bytes = "fetching press 2.0.0", 1 << 20, 4 << 20
    world.sync.paused = True
    out = ask("sync", "status").out
    assert "ALARM: the timestamp expires tomorrow\n" in out
    assert "now fetching press 2.0.0, 1 MiB of 4 MiB\n" in out
    assert "https://models.example, paused\n" in out
    assert "next poll" not in out


@pytest.mark.parametrize(
    ("command", "wish"),
    [("status", "WISH_UNSPECIFIED"), ("now", "WISH_NOW"), ("pause", "WISH_PAUSE"), ("resume", "WISH_RESUME")],
)
def test_each_command_is_a_wish(ask, world, command, wish):
    assert ask("sync", command).code == 0
    assert world.requests[-1].wish == pb.SyncRequest.Wish.Value(wish)


def test_a_root_is_shown_and_asked_about_before_it_is_installed(ask, world, root):
    world.root.CopyFrom(ROOT)
    done = ask("registry", "trust", root, stdin=b"y\n")
    assert done.code == 0
    assert "root: 2 of 3 keys\n" in done.out
    assert "abab abab abab abab" in done.out
    assert "installed: releases that these keys vouch for may run here\n" in done.out
    shown, _, _ = done.out.partition("Do these fingerprints")
    assert max(map(len, shown.splitlines())) <= 80
    looked, installed = world.requests[-2:]
    assert (looked.install, installed.install, installed.force) == (False, True, False)
    assert installed.root == b'{"a": "root"}'


def test_nothing_is_installed_without_a_yes(ask, world, root):
    world.root.CopyFrom(ROOT)
    done = ask("registry", "trust", root, stdin=b"n\n")
    assert done.code == ExitCode.REFUSED
    assert [request.install for request in world.requests] == [False]


def test_scripts_say_yes(ask, world, root):
    world.root.CopyFrom(ROOT)
    document = ask("registry", "trust", root, "--yes", "--force", "--json").json
    assert document["outcome"] == "installed"
    assert world.requests[-1].force
    assert ask("registry", "trust", root, "--json").code == ExitCode.USAGE


def test_files_that_are_none(ask, tmp_path):
    assert ask("registry", "trust", tmp_path / "none").code == ExitCode.INVALID_INPUT
    (tmp_path / "large").write_bytes(bytes(1024 * 1024 + 1))
    assert ask("registry", "trust", tmp_path / "large").code == ExitCode.INVALID_INPUT


def test_a_refusal_is_told(ask, world, root):
    world.fail_with = (grpc.StatusCode.FAILED_PRECONDITION, "this is no root of trust")
    done = ask("registry", "trust", root, "--yes")
    assert done.code == ExitCode.REFUSED
    assert "this is no root of trust" in done.err


PLANNED = pb.PlanSyncResponse(
    source="https://models.example",
    polled_ms=1_700_000_000_000,
    removals=[pb.PlannedRemoval(line="press", version="1.0.0", room_for="press 3.0.0")],
    installs=[
        pb.PlannedInstall(
            line="press", version="3.0.0", why="release 9 follows 2.0.0", fetch_bytes=3 << 20, disk_bytes=4 << 20, activate=True
        )
    ],
    lines=LINES[1:],
)  # fmt: skip


def test_a_plan_asks_the_registry_first_and_says_what_comes_and_goes(ask, world):
    before, after = (
        pb.SyncResponse(registry="https://x", polled_ms=1),
        pb.SyncResponse(registry="https://x", polled_ms=2),
    )
    world.answers.extend([before, before, before, after])
    world.planned.CopyFrom(PLANNED)
    done = ask("sync", "plan")
    assert done.code == 0
    assert [heard.wish for heard in world.requests][:2] == [0, pb.SyncRequest.WISH_LOOK]
    assert "from https://models.example, as of 20" in done.out
    assert "remove   press 1.0.0, to make room for press 3.0.0" in done.out
    assert "install  press 3.0.0: fetch 3 MiB, activate; release 9 follows 2.0.0" in done.out
    assert "leave    vad 7.1.0, waiting: its wave opens at 22:00" in done.out
    document = ask("sync", "plan", "--cached", "--json").json
    assert document["installs"][0]["fetch_bytes"] == 3 << 20


def test_a_plan_whose_registry_is_away_is_an_old_one(ask, world):
    world.answers.extend([pb.SyncResponse(polled_ms=1), pb.SyncResponse(polled_ms=2, error="no route")])
    done = ask("sync", "plan")
    assert done.code == ExitCode.UNAVAILABLE
    assert "could not be asked: no route" in done.out
    assert "before the last restart" in done.out


def test_a_limit_from_now_on(ask, world):
    world.sync.CopyFrom(pb.SyncResponse(registry="https://x", limit_kib_s=2048))
    assert "fetches at most 2 MiB a second" in ask("sync", "limit", "2048").out
    assert world.requests[-1].limit_kib_s == 2048
    ask("sync", "status")
    assert not world.requests[-1].HasField("limit_kib_s")
    assert ask("sync", "limit", "--", "-1").code == ExitCode.USAGE
