"""`appliance doctor` on a machine where the package has just been installed: true, helpful, and fit for scripts."""

import re

from installed_box import SOCKET, STATE, Box


def found(box: Box) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in box.json("doctor")["checks"]}


def test_what_it_says_is_so(shared_box: Box) -> None:
    checks = found(shared_box)
    assert checks["unix socket"]["found"] == f"the daemon answers at {SOCKET}"
    assert checks["address"]["found"] == "the daemon listens on 127.0.0.1:8001"
    assert checks["state folder"]["found"] == STATE
    assert re.search(r"[1-9][\d.]* GiB free for " + STATE, checks["disk"]["found"])
    # The unit lets it have a real-time class; what surrounds the machine may not let the unit.
    limits = shared_box.machine.run("cat", f"/proc/{shared_box.pid}/limits").stdout
    may = not re.search(r"Max realtime priority +0 ", limits)
    assert (checks["real-time class"]["level"] == "ok") is may
    del checks["real-time class"]
    assert {check["level"] for check in checks.values()} == {"ok"}


def test_what_is_broken_it_names_with_a_way_out(own_box: Box) -> None:
    box = own_box
    box.systemctl("stop")
    stopped = box.machine.run("appliance", "doctor", check=False)
    assert stopped.returncode == 0
    box.machine.path(f"{STATE}/format.json").write_text('{"format": 99, "written_by": "9.0.0"}')
    newer = box.machine.run("appliance", "doctor", check=False)
    assert newer.returncode != 0
    assert "install 9.0.0 again" in newer.stdout
    box.configure("50-wrong", "[server]\nthreads = 0\n")
    wrong = box.machine.run("appliance", "doctor", check=False)
    assert wrong.returncode != 0
    assert "/etc/inference-appliance/conf.d/50-wrong.toml" in wrong.stdout.replace("\n", "")
    assert "server.threads" in wrong.stdout
