"""Runs Python in the sandbox of an installed unit: a second unit with the same settings, but another program."""

import json
from typing import Any

from installed_box import UNIT
from machine import Machine

_PYTHON = "/usr/lib/inference-appliance/bin/python3"
_PROGRAM, _OUTPUT = "/usr/local/lib/probe.py", "/run/probe.json"
# What makes a program of a service. RuntimeDirectory= of both is the same folder, which must outlive the probe.
_CHANGED = f"""[Service]
Type=oneshot
ExecStart=
ExecStart={_PYTHON} -I {_PROGRAM}
ExecReload=
Restart=no
WatchdogSec=0
RuntimeDirectoryPreserve=yes
StandardOutput=truncate:{_OUTPUT}
"""
_OPENING = """
import json

def tried(action, *arguments):
    try:
        return repr(action(*arguments))
    except OSError as error:
        return type(error).__name__ if error.errno is None else __import__("errno").errorcode[error.errno]

found = {}
"""
_END = "\nprint(json.dumps(found))\n"


def in_unit(machine: Machine, code: str) -> dict[str, Any]:
    """What ``code`` has put into ``found``; ``tried(function, *arguments)`` is the answer's repr, or the error's name."""
    units = machine.path("/run/systemd/system")
    (units / "probe.service.d").mkdir(parents=True, exist_ok=True)
    (units / "probe.service").write_text(machine.path(f"/lib/systemd/system/{UNIT}").read_text())
    (units / "probe.service.d" / "program.conf").write_text(_CHANGED)
    machine.path(_PROGRAM).write_text(_OPENING + code + _END)
    machine.run("systemctl", "daemon-reload")
    started = machine.run("systemctl", "start", "probe.service", check=False)
    assert started.returncode == 0, machine.journal("--unit", "probe.service")
    found: dict[str, Any] = json.loads(machine.path(_OUTPUT).read_text())
    return found


def outside_unit(machine: Machine, code: str) -> dict[str, Any]:
    """The same as root, in no sandbox: what shows that a test could fail."""
    done = machine.run(_PYTHON, "-I", "-", stdin=_OPENING + code + _END)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
