"""What an engine may take: how much there is (also under control groups), the sums, and the bound in a real process."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.osutil.memory_bound import allowed_bytes, data_limit, die_first, group_bytes, reserve_bytes
from appliance.osutil.memory_room import Room, private_bytes, room, writable_bytes

MIB = 1024 * 1024
GIB = 1024 * MIB
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def root(tmp_path):
    """A machine with 16 GiB, of which 9 are available."""
    (tmp_path / "proc/self").mkdir(parents=True)
    meminfo = (
        "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    9437184 kB\nSwapTotal: {} kB\n"
    )
    (tmp_path / "proc/meminfo").write_text(meminfo.format(0))
    return tmp_path


def group(root, path, most, current, cache=0):
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache // 2}\nactive_file {cache - cache // 2}\n")


def test_the_machine_alone(root):
    assert room(root) == Room(16 * GIB, 9 * GIB)


def test_swap_is_seen(root):
    text = (root / "proc/meminfo").read_text().replace("SwapTotal: 0", "SwapTotal: 1048576")
    (root / "proc/meminfo").write_text(text)
    assert room(root) == Room(16 * GIB, 9 * GIB, swaps=True)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"a.slice/b.service": ("max", GIB)}, Room(16 * GIB, 9 * GIB)),
        ({"a.slice/b.service": (4 * GIB, GIB)}, Room(4 * GIB, 3 * GIB)),
        ({"a.slice/b.service": (4 * GIB, 3 * GIB, 2 * GIB)}, Room(4 * GIB, 3 * GIB)),
        ({"a.slice/b.service": (4 * GIB, GIB), "a.slice": (2 * GIB, GIB)}, Room(2 * GIB, GIB)),
        ({"a.slice/b.service": ("max", GIB), "a.slice": (2 * GIB, 2 * GIB)}, Room(2 * GIB, 0)),
        ({"a.slice/b.service": (2 * GIB, 3 * GIB)}, Room(2 * GIB, 0)),
        ({"a.slice/b.service": ("nonsense", GIB)}, Room(16 * GIB, 9 * GIB)),
        ({"a.slice/b.service": (64 * GIB, GIB)}, Room(16 * GIB, 9 * GIB)),
        ({"another": (GIB, GIB)}, Room(16 * GIB, 9 * GIB)),
    ],
)  # fmt: skip
def test_control_groups_bound_it(root, groups, expected):
    (root / "proc/self/cgroup").write_text("1:name=systemd:/x\n0::/a.slice/b.service\n")
    for path, facts in groups.items():
        group(root, path, *facts)
    assert room(root) == expected


@pytest.mark.parametrize("text", ["", "MemTotal: x kB\n", "MemTotal: 5 kB\n", "no colon at all\n"])
def test_a_machine_that_does_not_say(root, text):
    (root / "proc/meminfo").write_text(text)
    assert room(root) is None


@pytest.mark.parametrize(
    ("statm", "expected"), [("1000 300 100 1 0 500 0", 200 * PAGE), ("1000 100 300 1 0 5 0", 0)]
)  # fmt: skip
def test_files_and_shared_memory_do_not_count(tmp_path, statm, expected):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/statm").write_text(statm)
    (tmp_path / "7/status").write_text("Name:\tx\nVmSwap:\t      12 kB\n")
    assert private_bytes(7, proc=tmp_path) == expected
    assert private_bytes(7, True, tmp_path) == expected + 12 * 1024


def test_a_process_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        private_bytes(7, proc=tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "7/statm").write_text("")
    with pytest.raises(ValueError, match="no numbers"):
        private_bytes(7, proc=tmp_path)


def test_our_own():
    assert 0 < private_bytes("self") < writable_bytes() + 64 * MIB


@pytest.mark.parametrize(
    ("total", "reserve"), [(128 * MIB, 64 * MIB), (GIB, 256 * MIB), (8 * GIB, 256 * MIB), (64 * GIB, 2 * GIB)]
)
def test_what_is_left_to_everything_else(total, reserve):
    assert reserve_bytes(total) == reserve


@pytest.mark.parametrize(
    ("limit", "total", "allowed"),
    [(0, 16 * GIB, 15.5 * GIB), (200, 16 * GIB, 200 * MIB), (99_999, 16 * GIB, 15.5 * GIB), (-1, GIB, 768 * MIB)],
)
def test_what_one_engine_may_have(limit, total, allowed):
    assert allowed_bytes(limit, total) == allowed


sizes = st.integers(0, 2**50)


@pytest.mark.parametrize("total_mib", [1024, 8192, 262_144])
@pytest.mark.parametrize("limit_mib", [1, 200, 100_000])
def test_the_kernels_bound_is_past_the_daemons_own(limit_mib: int, total_mib: int) -> None:
    """Seen from within its group, too, an engine may have what its model's limit says."""
    bound = group_bytes(limit_mib, 93 * MIB)
    allowed = allowed_bytes(limit_mib, total_mib * MIB)
    assert bound > 2 * allowed + 93 * MIB
    assert allowed_bytes(limit_mib, bound) == limit_mib * MIB
    assert group_bytes(0, 93 * MIB) == 0


@given(limit=st.integers(0, 10**9), total=sizes, private=sizes, writable=sizes)
def test_sums_never_turn_over(limit, total, private, writable):
    allowed = allowed_bytes(limit, total)
    assert 0 <= allowed <= total - reserve_bytes(total)
    bound = data_limit(allowed, private, writable)
    assert bound >= writable
    assert bound - writable == max(0, allowed - private)


def test_the_kernel_may_be_told_whom_to_take(tmp_path):
    assert die_first(tmp_path / "oom_score_adj")
    assert (tmp_path / "oom_score_adj").read_text() == str(limits.engine_oom_score_adj)
    assert not die_first(tmp_path / "missing" / "oom_score_adj")


CHILD = """
import sys
from appliance.osutil import memory_bound
beyond = memory_bound.bound(int(sys.argv[1]))
if beyond:
    print("beyond")
    sys.exit()
held = []
try:
    while True:
        held.append(bytearray(b"x") * (4 << 20))
except MemoryError:
    print(len(held) * 4)
"""


def test_a_real_process_meets_its_bound_and_lives():
    done = subprocess.run([sys.executable, "-c", CHILD, "100"], capture_output=True, text=True, check=True)
    assert 60 <= int(done.stdout) <= 100


def test_a_real_process_that_has_too_much_already():
    done = subprocess.run([sys.executable, "-c", CHILD, "1"], capture_output=True, text=True, check=True)
    assert done.stdout == "beyond\n"
