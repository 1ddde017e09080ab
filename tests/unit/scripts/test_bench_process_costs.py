"""Readings of /proc, from files as the kernel writes them."""

import os

import pytest
from bench.process_costs import (
    Busyness,
    Usage,
    differences,
    machine_ticks,
    parse_schedstat,
    parse_switches,
    read,
    tree_of,
    usage_of,
)

STATUS = "Name:\tpython\nvoluntary_ctxt_switches:\t{own}\nnonvoluntary_ctxt_switches:\t{forced}\n"


def _task(proc, pid, tid, *, on=0, waiting=0, own=0, forced=0, children=""):
    folder = proc / str(pid) / "task" / str(tid)
    folder.mkdir(parents=True)
    (folder / "schedstat").write_text(f"{on} {waiting} 7\n")
    (folder / "status").write_text(STATUS.format(own=own, forced=forced))
    (folder / "children").write_text(children)


def test_lines_of_proc_are_read():
    assert parse_schedstat("12345 678 9\n") == (12345, 678)
    assert parse_switches(STATUS.format(own=3, forced=4)) == (3, 4)
    assert parse_switches("Name:\tx\n") == (0, 0)
    # user nice system idle iowait irq softirq steal guest guest_nice; guest time is in user's already.
    assert machine_ticks("cpu  10 1 5 70 4 2 3 5 9 9\ncpu0 1 1 1\n") == (26, 100)


def test_a_process_is_all_of_its_threads(tmp_path):
    _task(tmp_path, 10, 10, on=100, waiting=1, own=5, forced=2)
    _task(tmp_path, 10, 11, on=50, waiting=2, own=1, forced=1)
    assert usage_of(10, tmp_path) == Usage(150, 3, 6, 3)
    assert usage_of(99, tmp_path) == Usage()


def test_a_tree_has_children_of_every_thread(tmp_path):
    _task(tmp_path, 10, 10, children="20 30 ")
    _task(tmp_path, 10, 11, children="40")
    _task(tmp_path, 30, 30, children="50")
    assert sorted(tree_of(10, tmp_path)) == [10, 20, 30, 40, 50]


def test_differences_are_never_negative():
    before, after = {"a": Usage(10, 10, 10, 10)}, {"a": Usage(15, 5, 11, 10), "b": Usage(1, 1, 1, 1)}
    assert differences(before, after) == {"a": Usage(5, 0, 1, 0), "b": Usage(1, 1, 1, 1)}


def test_this_process_uses_a_processor():
    before = read({"me": [os.getpid()]})
    sum(range(2_000_000))
    used = differences(before, read({"me": [os.getpid()]}))["me"]
    assert used.cpu_ns > 1_000_000
    assert os.getpid() in tree_of(os.getppid())


def test_busyness_is_a_share():
    assert 0 <= Busyness().share() <= 1


@pytest.mark.parametrize("text", ["", "1 2", "a b c"])
def test_other_lines_are_refused(text):
    with pytest.raises(ValueError, match=r"unpack|literal"):
        parse_schedstat(text)
