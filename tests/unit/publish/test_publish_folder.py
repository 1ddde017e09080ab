"""A folder is there whole, or not at all, and nothing else is touched."""

import os

import pytest

from appliance.errors import AlreadyExists, FailedPrecondition
from appliance.publish.folder import building, check_place, write_files


def make(target, text="new", force=False):
    with building(target, force) as work:
        write_files(work, {"model.toml": text.encode(), "golden/0.npy": b"x"})


def fail(target, force=False):
    with building(target, force) as work:
        write_files(work, {"model.toml": b"half"})
        raise KeyError


def come_second(target):
    with building(target, False) as work:
        write_files(work, {"model.toml": b"mine"})
        make(target.with_name("other"), "theirs")
        target.with_name("other").rename(target)


def test_it_appears_with_all_its_files(tmp_path):
    make(tmp_path / "deep" / "m")
    assert (tmp_path / "deep" / "m" / "golden" / "0.npy").read_bytes() == b"x"
    assert os.listdir(tmp_path / "deep") == ["m"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        fail(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_the_old_one(tmp_path):
    make(tmp_path / "m", "old")
    with pytest.raises(KeyError):
        fail(tmp_path / "m", force=True)
    assert (tmp_path / "m" / "model.toml").read_text() == "old"
    assert os.listdir(tmp_path) == ["m"]


def test_force_replaces_a_model_folder(tmp_path):
    make(tmp_path / "m", "old")
    with pytest.raises(AlreadyExists, match="--force replaces it"):
        make(tmp_path / "m")
    make(tmp_path / "m", force=True)
    assert (tmp_path / "m" / "model.toml").read_text() == "new"
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("what", ["file", "other folder", "link", "dangling link"])
def test_force_replaces_nothing_else(tmp_path, what):
    target = tmp_path / "m"
    if what == "file":
        target.write_text("mine")
    elif what == "other folder":
        target.mkdir()
        (target / "thesis.odt").write_text("mine")
    elif what == "link":
        make(tmp_path / "other")
        target.symlink_to(tmp_path / "other")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(AlreadyExists, match="no model folder"):
        check_place(target, force=True)


def test_one_that_comes_meanwhile_is_kept(tmp_path):
    with pytest.raises(AlreadyExists):
        come_second(tmp_path / "m")
    assert (tmp_path / "m" / "model.toml").read_text() == "theirs"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="the folder m can't be written"):
        make(tmp_path / "file" / "m")
