"""`appliance store ...` against a simulated daemon: what is printed, and the exit status that scripts go by."""

import grpc
import pytest

from appliance.cli.exit_codes import ExitCode
from appliance.pb.appliance.v1 import admin_pb2 as pb

ROTTEN = pb.StoreProblem(
    kind="blob-rotten",
    place="store/blobs/sha256/" + "ab" * 32,
    wrong="has other bytes than its name says",
    todo="run `appliance store repair`",
    models=["press:1.0.0", "press:2.0.0"],
    file="model.onnx",
    in_use=True,
)
INDEX = pb.StoreProblem(kind="index", place="store/index.json", wrong="is missing", todo="written again")


@pytest.fixture
def world(daemon):
    return daemon.world


def test_a_sound_store(ask, world):
    world.store_report.CopyFrom(pb.StoreReport(versions=1, blobs=7, bytes_read=3 << 20))
    done = ask("store", "check")
    assert done.code == 0
    assert done.out == "sound; 1 version, 7 blobs, 3 MiB read\n"
    assert "checking" in done.err
    assert isinstance(world.requests[-1], pb.CheckStoreRequest)
    assert ask("store", "check", "--json").json == {
        "sound": True,
        "versions": 1,
        "blobs": 7,
        "bytes_read": 3 << 20,
        "problems": [],
        "problem_count": 0,
        "healed": [],
        "healed_count": 0,
        "set_aside": 0,
        "set_aside_bytes": 0,
    }


@pytest.mark.parametrize("command", ["check", "repair"])
def test_damage_is_named_and_has_an_exit_status_of_its_own(ask, world, command):
    report = pb.StoreReport(
        versions=2,
        blobs=9,
        problems=[ROTTEN],
        problem_count=5,
        healed=[INDEX],
        healed_count=1,
        set_aside=1,
        set_aside_bytes=2048,
    )
    world.store_report.CopyFrom(report)
    done = ask("store", command)
    assert done.code == ExitCode.DAMAGED == 10
    assert done.out.splitlines() == [
        "repaired: store/index.json is missing",
        "  written again",
        f"damaged: {ROTTEN.place} has other bytes than its name says (press:1.0.0, press:2.0.0; model.onnx; in use)",
        "  run `appliance store repair`",
        "damaged: 4 more",
        "set aside as .broken: 1 file, 2 KiB; to delete: appliance store gc --broken",
        "damaged: 5 problems; 2 versions, 9 blobs, 0 B read",
    ]
    done = ask("store", command, "--json")
    assert done.code == ExitCode.DAMAGED
    assert done.json["sound"] is False
    assert done.json["problems"][0]["models"] == ["press:1.0.0", "press:2.0.0"]
    assert done.json["healed"][0]["kind"] == "index"


def test_a_repair_that_healed_all_ends_well(ask, world):
    world.store_report.CopyFrom(pb.StoreReport(versions=1, blobs=7, healed=[INDEX], healed_count=1))
    done = ask("store", "repair")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "sound; 1 version, 7 blobs, 0 B read"
    assert isinstance(world.requests[-1], pb.RepairStoreRequest)


def test_what_a_file_is_called_cannot_command_the_terminal(ask, world):
    evil = pb.StoreProblem(
        kind="view", place="models/a\x1b[2J\nsound", wrong="is\x07 not", todo="x\ny", file="\x1b]0;t"
    )
    world.store_report.CopyFrom(pb.StoreReport(problems=[evil], problem_count=1))
    done = ask("store", "check")
    assert not set(done.out) & {"\x1b", "\x07"}
    assert done.out.splitlines()[:2] == ["damaged: models/a[2J sound is not (]0;t)", "  x y"]


def test_garbage(ask, world):
    items = [pb.GarbageItem(kind="blob", place="store/blobs/sha256/00", size_bytes=5000)]
    world.garbage_report.CopyFrom(
        pb.GarbageReport(
            dry_run=True, items=items, item_count=3, bytes_freed=5000, kept=["a:1 has no readable manifest"]
        )
    )
    done = ask("store", "gc", "--dry-run")
    assert done.code == 0
    assert done.out.splitlines() == [
        "blob  store/blobs/sha256/00  4.88 KiB",
        "and 2 more",
        "unused blobs are kept: a:1 has no readable manifest",
        "4.88 KiB would be freed, 3 items",
    ]
    assert (world.requests[-1].dry_run, world.requests[-1].set_aside) == (True, False)
    world.garbage_report.dry_run = False
    assert ask("store", "gc", "--broken").out.splitlines()[-1] == "4.88 KiB freed, 3 items"
    assert (world.requests[-1].dry_run, world.requests[-1].set_aside) == (False, True)
    assert ask("store", "gc", "--json").json["items"][0]["kind"] == "blob"


@pytest.mark.parametrize("command", ["check", "repair", "gc"])
def test_an_answer_that_is_cut_off_or_refused_is_no_success(ask, world, command):
    world.cut_off = True
    assert ask("store", command).code == ExitCode.FAILED
    world.fail_with = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the disk that holds the models is full")
    done = ask("store", command)
    assert done.code == ExitCode.UNAVAILABLE
    assert "the disk that holds the models is full" in done.err
