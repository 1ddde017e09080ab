"""What a child of the supervisor may have open."""

import resource
import subprocess
import sys

_CHILD = """
import resource, socket
from appliance.osutil.child import adopt_control
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
ours, theirs = socket.socketpair()
adopt_control(theirs.detach(), "test")
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_a_child_may_open_as_many_files_as_the_machine_allows() -> None:
    """systemd starts services with a soft bound of 1,024, which as many idle clients of a front-end would use up."""
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
