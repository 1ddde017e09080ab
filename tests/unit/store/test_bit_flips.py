"""Bits flipped anywhere in what is stored, and entries of the small files that have come to say something else."""

import os
import random
import shutil
from pathlib import Path

import pytest

from appliance.questions import Desired
from appliance.store.problems import BLOB_KINDS
from appliance.store.store import Store
from tests.support import damaged_stores as damaged


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return damaged.prepare(tmp_path)


@pytest.fixture
def originals(state: Path) -> dict[str, bytes]:
    return damaged.blobs_of(state)


@pytest.mark.parametrize("reopened", [False, True], ids=["running", "reopened"])
@pytest.mark.parametrize("what", ["manifest", "config", "file", "index", "desired", "copy", "layout"])
def test_sampled_bit_flips_are_all_found_and_healed(
    state: Path, originals: dict[str, bytes], what: str, reopened: bool, tmp_path: Path
) -> None:
    """``reopened``: a store that was opened after the flip no longer knows what the small files said."""
    dice = random.Random(f"{what} {reopened}")
    before = damaged.digests(state)
    for number in range(30):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(state, copy, copy_function=os.link)
        for path in (*copy.glob("store/*.json"), *copy.glob("store/oci-layout"), *copy.glob("state/*.json")):
            damaged.break_link(path)
        target = {
            "manifest": damaged.manifest_of,
            "config": damaged.config_of,
            "file": damaged.file_of,
            "index": damaged.index,
            "desired": lambda s: s / "state/desired.json",
            "copy": lambda s: s / "state/desired.copy.json",
            "layout": lambda s: s / "store/oci-layout",
        }[what](copy)
        place, bit = dice.randrange(target.stat().st_size), 1 << dice.randrange(8)
        store = Store(copy)
        good = target.read_bytes()
        bad = bytearray(good)
        bad[place] ^= bit
        damaged.overwrite(target, bytes(bad))
        store = Store(copy) if reopened else store
        damaged.fetch_from(store, copy, originals, [])
        found = store.check()
        where = f"{what}, bit {bit} of byte {place}: {bytes(bad[max(0, place - 20) : place + 20])!r}"
        harmless = b"added-ms" in good[max(0, place - 26) : place]  # a time that nothing depends on
        # The store heals some at its start, and says so in the log.
        if not (reopened and what in ("index", "desired")) and not harmless:
            assert found.problem_count, where
            assert (what in ("manifest", "config", "file")) == all(p.kind in BLOB_KINDS for p in found.problems), where
        report = store.repair()
        assert report.problems == (), where
        assert Store(copy).check().problems == (), where
        assert damaged.digests(copy) == before, where
        if not reopened or what in ("manifest", "config", "file"):
            assert Store(copy).desired() == (Desired("press", "1.0.0"),), where
        if what in ("manifest", "config", "file"):  # the copies share inodes
            damaged.overwrite(state / target.relative_to(copy), good)


def test_an_entry_that_points_elsewhere_is_corrected_after_its_manifest(state: Path) -> None:
    before = damaged.digests(state)
    text = damaged.index(state).read_text()
    for old, new in (
        ("press:2.0.0", "press:2.0.8"),
        (damaged.entry(state, "press", "2.0.0")["digest"], "sha256:" + "0" * 64),
        (f'"size":{damaged.entry(state, "press", "2.0.0")["size"]}', '"size":17'),
        ("vnd.cncf.model.manifest.v1+json", "vnd.cncf.model.manifest.v9+json"),
    ):
        damaged.index(state).write_text(text.replace(old, new, 1))
        store = Store(state)
        found = store.check()
        assert {p.kind for p in found.problems} & {"index-entry", "blob-missing"}, new
        assert store.repair().problems == (), new
        assert damaged.digests(state) == before
        assert {f"{m.name}:{m.version}": m.digest for m in store.versions()} == before


def test_what_should_run_and_is_not_stored_is_told_and_the_right_copy_wins(state: Path) -> None:
    main = state / "state/desired.json"
    text = main.read_text()
    main.write_text(text.replace('"1.0.0"', '"1.0.1"'))
    store = Store(state)
    found = store.check()
    assert {problem.kind for problem in found.problems} == {"desired", "desired-version"}
    assert any("it says press 1.0.0" in problem.wrong for problem in found.problems)
    assert store.repair().problems == ()
    assert store.desired() == (Desired("press", "1.0.0"),)
    assert main.read_text() == text

    for path in (main, state / "state/desired.copy.json"):
        path.write_text(text.replace('"1.0.0"', '"1.0.1"'))
    store = Store(state)
    (problem,) = store.repair().problems
    assert (problem.kind, problem.models) == ("desired-version", ("press:1.0.1",))
    assert "appliance models activate" in problem.todo
