"""In a process of its own: the allocator's settings hold for the whole process."""

import subprocess
import sys

CODE = """
import resource
{setting}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        bytearray(600_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
KEEP = "from appliance.osutil.memory import keep_freed_memory\nassert keep_freed_memory()"


def page_faults(setting: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(setting=setting)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_the_next_tensor_costs_no_page_faults() -> None:
    assert page_faults(KEEP) < 1000


def test_without_the_setting_each_tensor_is_mapped_anew() -> None:
    """The control. glibc raises its threshold by itself when a mapped block is freed, so the setting is fixed here."""
    fixed = "import ctypes; ctypes.CDLL(None).mallopt(-3, 128 * 1024)"
    assert page_faults(fixed) > 10_000
