"""Control groups in a made-up tree: when they are made, what is written where, and that nothing is left when it fails."""

import os
from pathlib import Path

import pytest

from appliance.osutil import control_groups
from appliance.osutil.control_groups import (
    ControlGroups,
    NoGroupsError,
    Surroundings,
    join,
    make_engine_group,
    make_groups,
    refusal,
    remove_engine_group,
    undo,
)

OURS = Surroundings(delegated=True, writable=True, controllers=frozenset({"cpu", "memory"}), processes=frozenset({7}))


@pytest.mark.parametrize(
    ("around", "words"),
    [
        (OURS, ""),
        (Surroundings(False, True, OURS.controllers, OURS.processes), "Delegate=cpu memory"),
        (Surroundings(True, False, OURS.controllers, OURS.processes), "Delegate=cpu memory"),
        (Surroundings(True, True, frozenset({"memory"}), OURS.processes), "no cpu controller"),
        (Surroundings(True, True, OURS.controllers, frozenset({7, 8})), "other processes"),
        (Surroundings(True, True, OURS.controllers, frozenset()), "other processes"),
    ],
)
def test_whether_groups_are_made(around: Surroundings, words: str) -> None:
    assert words in refusal(around, 7)
    assert bool(words) == bool(refusal(around, 7))


class Tree:
    """What the kernel shows of a delegated unit. Its groups' files are there before them: here nobody makes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "sys/fs/cgroup/system.slice/appliance.service"
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text("1:cpu:/x\n0::/system.slice/appliance.service\n")
        for name in ("", "daemon", "daemon/main", "daemon/engine-1", "throughput", "throughput/engine-2"):
            group = self.base / name
            group.mkdir(parents=True)
            (group / "cgroup.type").write_text("domain\n")
            (group / "cgroup.procs").write_text("")
            (group / "cgroup.subtree_control").write_text("")
            (group / "memory.max").write_text("max")
        (self.base / "cgroup.procs").write_text(f"{os.getpid()}\n")
        (self.base / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
        (self.base / "cgroup.subtree_control").write_text("")
        (self.base / "throughput/cpu.weight").write_text("100")

    def text(self, name: str) -> str:
        return (self.base / name).read_text()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    # Not every file system of a test's folder has attributes of a user's own.
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"1" if name == "user.delegate" else b"")
    return Tree(tmp_path)


def test_the_daemon_moves_down_and_throughput_has_a_tenth_of_its_weight(tree: Tree) -> None:
    groups = make_groups(tree.root)
    assert groups.throughput == tree.base / "throughput"
    assert tree.text("daemon/main/cgroup.procs") == str(os.getpid())
    assert tree.text("cgroup.subtree_control") == "+cpu +memory"
    assert tree.text("daemon/cgroup.subtree_control") == tree.text("throughput/cgroup.subtree_control") == "+memory"
    assert int(tree.text("throughput/cpu.weight")[:2]) == 10
    join(groups.throughput)
    assert tree.text("throughput/cgroup.procs") == str(os.getpid())


def test_each_engine_has_a_group_and_a_bound_if_its_model_has(tree: Tree) -> None:
    groups = make_groups(tree.root)
    assert make_engine_group(groups, 1, 0, throughput=False) == tree.base / "daemon/engine-1"
    assert tree.text("daemon/engine-1/memory.max") == "max"
    assert make_engine_group(groups, 2, 77, throughput=True) == tree.base / "throughput/engine-2"
    assert tree.text("throughput/engine-2/memory.max")[:2] == "77"


def test_a_group_goes_with_its_engine_and_no_other_does(tmp_path: Path) -> None:
    for name in ("engine-1", "throughput"):
        (tmp_path / name).mkdir()
        remove_engine_group(tmp_path / name)
    assert os.listdir(tmp_path) == ["throughput"]


def test_without_the_memory_controller_only_the_processor_is_divided(tree: Tree) -> None:
    (tree.base / "cgroup.controllers").write_text("cpuset cpu pids\n")
    groups = make_groups(tree.root)
    assert tree.text("daemon/cgroup.procs") == str(os.getpid())
    assert (tree.text("cgroup.subtree_control"), tree.text("daemon/cgroup.subtree_control")) == ("+cpu", "")
    assert make_engine_group(groups, 1, 5, throughput=False) is None
    assert make_engine_group(groups, 2, 5, throughput=True) == groups.throughput


def test_what_fails_on_the_way_is_undone(tree: Tree) -> None:
    (tree.base / "throughput/cpu.weight").unlink()
    with pytest.raises(NoGroupsError, match="could not be divided"):
        make_groups(tree.root)
    assert tree.text("cgroup.procs").startswith(str(os.getpid()))
    assert tree.text("cgroup.subtree_control") == "-cpu -memory"
    assert tree.text("daemon/cgroup.subtree_control") == "-memory"


def test_undo_removes_groups_that_are_empty(tmp_path: Path) -> None:
    groups = ControlGroups(tmp_path, memory=True)
    groups.main.mkdir(parents=True)
    groups.throughput.mkdir()
    undo(groups)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cgroup", "words"),
    [
        ("", "no control group of version 2"),
        ("4:memory:/x\n", "no control group of version 2"),
        ("0::/other\n", "version 2"),
    ],
)
def test_another_place_than_ours(tree: Tree, cgroup: str, words: str) -> None:
    (tree.root / "proc/self/cgroup").write_text(cgroup)
    with pytest.raises(NoGroupsError, match=words):
        make_groups(tree.root)


def test_a_kernel_without_groups(tmp_path: Path) -> None:
    with pytest.raises(NoGroupsError, match="no control groups"):
        make_groups(tmp_path)


@pytest.mark.parametrize("procs", ["1\n2\n", "nonsense"])
def test_others_in_the_group(tree: Tree, procs: str) -> None:
    (tree.base / "cgroup.procs").write_text(procs)
    with pytest.raises(NoGroupsError):
        make_groups(tree.root)
    assert tree.text("cgroup.procs") == procs


def test_what_systemd_did_not_delegate_is_left_alone_by_root(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "_marked", lambda _: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(NoGroupsError, match="not delegated"):
        make_groups(tree.root)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # who may write it although he is not root was given it
    assert make_groups(tree.root)
