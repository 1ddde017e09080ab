"""The systemd unit and its drop-ins: valid, as closed as promised, and open where the daemon needs it."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from appliance.cli import service_drop_in
from appliance.config import Config, EnginesConfig, ServerConfig

PACKAGED = Path(__file__).parents[3] / "packaging/systemd"
UNIT = PACKAGED / "inference-appliance.service"
GPU = PACKAGED / "gpu.conf"
# Of ten; `systemd-analyze` counts in tenths.
SCORE_MAX_CPU, SCORE_MAX_GPU = 15, 18

AROUND = {
    **dict.fromkeys(("sysinit.target", "basic.target", "shutdown.target", "network.target"), ""),
    "-.mount": "[Mount]\nWhat=/dev/x\nWhere=/\n",
    "tmp.mount": "[Mount]\nWhat=tmpfs\nWhere=/tmp\n",
}

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
Analyze = Callable[..., "subprocess.CompletedProcess[str]"]


def generated(gpu: bool) -> str:
    """What a box gets that serves a plant's network."""
    config = Config(
        server=ServerConfig(address="0.0.0.0:8001", insecure=True), engines=EnginesConfig(providers=("cuda", "cpu"))
    )
    return service_drop_in.render(service_drop_in.plan(config, ["10.1.0.0/16"], gpu), [])


@pytest.fixture
def analyze(tmp_path: Path) -> Analyze:
    """Runs a command of systemd-analyze on a root with the unit, ``drop_ins`` of it, and what it starts."""
    units = tmp_path / "etc/systemd/system"
    (units / f"{UNIT.name}.d").mkdir(parents=True)
    # What comes by default with every service, and what PrivateTmp= and StateDirectory= hang on: verify looks for it.
    for name, more in AROUND.items():
        (units / name).write_text(f"[Unit]\nDescription=for a test\nDefaultDependencies=no\n{more}")
    for program in ("usr/bin/appliance", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).touch(mode=0o755)

    def run(command: str, *options: str, drop_ins: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        (units / UNIT.name).write_text(UNIT.read_text())
        for number, text in enumerate(drop_ins):
            (units / f"{UNIT.name}.d" / f"{number}.conf").write_text(text)
        words = ["systemd-analyze", command, *options, f"--root={tmp_path}", UNIT.name]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    return run


@needs_systemd
@pytest.mark.parametrize(
    ("drop_ins", "score_max"),
    [
        ((), SCORE_MAX_CPU),
        ((generated(gpu=False),), SCORE_MAX_CPU),
        ((GPU.read_text(),), SCORE_MAX_GPU),
        ((generated(gpu=True),), SCORE_MAX_GPU),
    ],
    ids=["as shipped", "networks", "gpu.conf", "networks and GPU"],
)
def test_score(analyze: Analyze, drop_ins: Sequence[str], score_max: int) -> None:
    done = analyze("security", "--offline=true", f"--threshold={score_max}", "--no-pager", drop_ins=drop_ins)
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout
    strict = analyze("security", "--offline=true", "--threshold=5", "--no-pager", drop_ins=drop_ins)
    assert strict.returncode != 0  # the threshold is really looked at


@needs_systemd
@pytest.mark.parametrize("drop_in", ["", generated(gpu=True), GPU.read_text()])
def test_verify(analyze: Analyze, drop_in: str) -> None:
    done = analyze("verify", "--man=no", drop_ins=[drop_in])
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_verify_would_find_a_mistake(analyze: Analyze) -> None:
    done = analyze("verify", "--man=no", drop_ins=["[Service]\nWatchdogSec=soon\nNoSuchThing=1\n"])
    assert "soon" in done.stderr
    assert "NoSuchThing" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "LimitRTPRIO=1",
        "RestrictRealtime=no",
        "Delegate=cpu memory",
        "ProtectControlGroups=no",  # the delegated ones are written to
        "OOMPolicy=continue",
        "KillMode=mixed",
        *(f"{kind}Directory=inference-appliance" for kind in ("State", "Runtime", "Cache", "Logs", "Configuration")),
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "IPAddressDeny=any",
    ],
)
def test_what_the_daemon_relies_on(line: str) -> None:
    assert line in UNIT.read_text().splitlines()


def test_no_bound_on_realtime_work_by_signal() -> None:
    """SIGXCPU of a finite LimitRTTIME= would end the process that computes."""
    assert not [line for line in UNIT.read_text().splitlines() if line.startswith("LimitRTTIME=")]


def test_the_generated_drop_in_opens_the_gpu_as_gpu_conf_does() -> None:
    lines = [line for line in GPU.read_text().splitlines() if line and line[0] not in "#["]
    assert lines == list(service_drop_in.GPU_LINES)
