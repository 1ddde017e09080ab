"""One update, hurt at every fault point that it passes, in every way; then the machine starts again, and is looked at."""

import errno
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from appliance.clock import FakeClock
from appliance.osutil import faults
from appliance.publish.release import operations
from appliance.publish.release.upload import Registry
from appliance.registry.sources.layout import LayoutSource
from appliance.registry.sources.layout_target import LayoutTarget
from appliance.registry.trust.releases import Trust
from tests.support import publishing
from tests.support.power_cut import CUT, Cut, Disk
from tests.support.update_machine import BIG_BYTES, Machine, Scenario, short_of_room

SCENARIOS = (
    Scenario("first", "", "1.0.0", "1.0.0"),
    Scenario("good", "1.0.0", "2.0.0", "2.0.0"),
    Scenario("refused", "1.0.0", "2.0.0", "1.0.0", fails=True),
    Scenario("rolled back", "1.0.0", "2.0.0", "1.0.0", worse=True),
    Scenario("stick", "1.0.0", "2.0.0", "2.0.0", stick=True),
    Scenario("room", "3.0.0", "4.0.0", "4.0.0", short=True),
)
VERSIONS = ("1.0.0", "2.0.0", "3.0.0", "4.0.0")


class Hurt(Enum):
    """What happens at the point."""

    KILL = "kill -9"
    LOSES = "power cut, unsynced names lost"
    KEEPS = "power cut, unsynced bytes lost"
    FULL = "disk full"
    BROKEN = "disk error"
    FLIPPED = "a bit flipped"


# What can happen at a fault point.
AT_POINTS = (Hurt.KILL, Hurt.LOSES, Hurt.KEEPS, Hurt.FULL, Hurt.BROKEN)


class Result(NamedTuple):
    """``serves``: right after the start; ``problem``: what must not be, "" when all is as it should be."""

    scenario: str
    hurt: Hurt
    point: str
    serves: str
    problem: str


class Matrix:
    """Works in ``folder``, best one in memory: nothing here depends on a disk that is slow to sync."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now_ns = time.time_ns()
        self._numbers = iter(range(10**9))
        self._publish()
        for scenario in SCENARIOS:
            self._begin(scenario)

    def flipped(self, scenario: Scenario, name: str, place: float) -> tuple[Result, list[str]]:
        """The update with one bit of the file ``name`` (below the state) changed before it starts, and what a check named."""
        state = self._copy(scenario)
        flip(state / name, place)
        found = self._forked_report(lambda: self._after_flip(state, scenario))
        shutil.rmtree(state)
        return Result(scenario.name, Hurt.FLIPPED, name, found["serves"], found["problem"]), found["named"]

    def lied_to(self, scenario: Scenario, name: str, place: float) -> Result:
        """The update from a registry with one bit of its file ``name`` changed; the registry is mended, and it goes on."""
        state, registry = self._copy(scenario), self.registry(scenario)
        data = (registry / name).read_bytes()
        flip(registry / name, place)
        found = self._forked_report(lambda: self._while_lied_to(state, scenario))
        (registry / name).write_bytes(data)
        if not found["problem"]:
            found["problem"] = self._start_again(state, scenario)["problem"]
        shutil.rmtree(state)
        return Result(scenario.name, Hurt.FLIPPED, name, found["serves"], found["problem"])

    def registry(self, scenario: Scenario) -> Path:
        """The folder that the scenario's update comes from."""
        return self._folder / f"registry-{scenario.new}"

    def before(self, scenario: Scenario) -> Path:
        """The state before the update: to look at."""
        return self._folder / f"before-{scenario.name}"

    def points(self, scenario: Scenario) -> list[str]:
        """The fault points that an undisturbed update passes, in their order."""
        state, names = self._copy(scenario), self._folder / "names"

        def child() -> None:
            passed: list[str] = []
            faults.arm("*=print")
            faults._pass = passed.append
            self._machine(state, scenario).work()
            names.write_text("\n".join(passed))

        status = _forked(child)
        if status:
            raise AssertionError(f"{scenario.name}: the undisturbed update failed")
        return names.read_text().split()

    def run(self, scenario: Scenario, index: int, hurt: Hurt) -> Result:
        """The ``index``-th point of the update, hurt; None-like results have the problem in them."""
        state, note = self._copy(scenario), self._folder / "note"
        note.write_text("(not reached)")
        left = state.with_name(f"{state.name}-left")
        status = _forked(lambda: self._hurt(state, left, note, scenario, index, hurt))
        point = note.read_text()
        died = {Hurt.KILL: -signal.SIGKILL, Hurt.LOSES: CUT, Hurt.KEEPS: CUT}.get(hurt)
        if point != "(not reached)" and died is not None and status != died:
            return Result(scenario.name, hurt, point, "", f"it ended with {status}, not as it was made to")
        if left.is_dir():
            shutil.rmtree(state)
            left.rename(state)
        found = self._start_again(state, scenario)
        shutil.rmtree(state)
        return Result(scenario.name, hurt, point, found["serves"], found["problem"])

    def _hurt(self, state: Path, left: Path, note: Path, scenario: Scenario, index: int, hurt: Hurt) -> None:
        disk = Disk(state) if hurt in (Hurt.LOSES, Hurt.KEEPS) else None
        passed = Counter[str]()

        def pass_point(name: str) -> None:
            passed["all"] += 1
            if passed["all"] != index + 1:
                return
            note.write_text(name)
            if hurt is Hurt.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            elif disk is not None:
                disk.cut(Cut.LOSES if hurt is Hurt.LOSES else Cut.KEEPS, left)
            number = errno.ENOSPC if hurt is Hurt.FULL else errno.EIO
            raise OSError(number, os.strerror(number))

        faults.arm("*=print")
        faults._pass = pass_point
        if disk is not None:
            disk.watch()
        self._machine(state, scenario).work()

    def _start_again(self, state: Path, scenario: Scenario) -> dict[str, Any]:
        return self._forked_report(lambda: self._looked_at(state, scenario))

    def _forked_report(self, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        report = self._folder / "report"

        def child() -> None:
            found: dict[str, Any] = {"serves": "", "problem": "", "named": []}
            try:
                found.update(look())
            except BaseException as error:
                found["problem"] = "".join(traceback.format_exception(error))[-1500:]
            report.write_text(json.dumps(found))

        _forked(child)
        result: dict[str, Any] = json.loads(report.read_text())
        return result

    def _after_flip(self, state: Path, scenario: Scenario) -> dict[str, Any]:
        """It starts, says what is wrong, heals it, and the update comes all the same."""
        machine = self._machine(state, scenario)
        named = [f"{each.place}: {each.wrong}" for each in machine.store.check().problems]
        machine.work()
        machine.store.repair()
        problems = [f"after the repair: {each.place}: {each.wrong}" for each in machine.store.check().problems]
        if (machine.active, machine.serves()) != (scenario.end, scenario.end):
            problems.append(f"in the end {machine.active!r} should run, and {machine.serves()!r} is whole")
        if machine.unverified():
            problems.append(f"unverified: {machine.unverified()}")
        return {"serves": machine.serves(), "problem": "; ".join(problems), "named": named}

    def _while_lied_to(self, state: Path, scenario: Scenario) -> dict[str, Any]:
        machine = self._machine(state, scenario)
        machine.work()
        problems = [f"{version} is listed, and is not what was signed" for version in machine.unverified()]
        if machine.serves() not in (scenario.old, scenario.new):
            problems.append(f"{machine.active!r} should run, and {machine.serves()!r} is whole")
        return {"serves": machine.serves(), "problem": "; ".join(problems)}

    def _looked_at(self, state: Path, scenario: Scenario) -> dict[str, str]:
        machine = self._machine(state, scenario)
        serves, problems = machine.serves(), []
        if serves not in (scenario.old, scenario.new):
            problems.append(f"serves {serves!r} of what should run, {machine.active!r}")
        problems += [f"{version} is listed, and its bytes are not the signed ones" for version in machine.unverified()]
        machine.work()
        if (machine.active, machine.serves()) != (scenario.end, scenario.end):
            problems.append(f"in the end {machine.active!r} should run, and {machine.serves()!r} is whole")
        if not machine.at_rest:
            problems.append(f"updates are left half done: {machine.journal.updates}")
        problems += [f"{each.place}: {each.wrong}" for each in machine.store.check().problems]
        return {"serves": serves, "problem": "; ".join(problems)}

    def _machine(self, state: Path, scenario: Scenario) -> Machine:
        if scenario.short:
            short_of_room(state)
        return Machine(state, self._folder / f"registry-{scenario.new}", scenario, FakeClock(wall_ns=self._now_ns))

    def _copy(self, scenario: Scenario) -> Path:
        state = self._folder / f"state-{next(self._numbers)}"
        shutil.copytree(self._folder / f"before-{scenario.name}", state, copy_function=_link_aware(state))
        return state

    def _publish(self) -> None:
        """A registry for each version, with all releases up to it."""
        desk = publishing.started(self._folder / "publisher")
        registry = self._folder / "registry"
        for version in VERSIONS:
            big = version.encode() * (BIG_BYTES // len(version))
            desk.pack(self._folder / f"folder-{version}", version, **{"model.onnx": big})
            desk.release(version)
            operations.publish(
                desk.publisher,
                publishing.registry(desk.layout),
                Registry("folder", LayoutSource(registry), LayoutTarget(registry)),
            )
            shutil.copytree(registry, self._folder / f"registry-{version}")
        self._root = desk.root()

    def _begin(self, scenario: Scenario) -> None:
        """The state before the update: trust is installed, and all versions up to ``old`` came one after the other."""
        state = self._folder / f"before-{scenario.name}"

        def child() -> None:
            clock = FakeClock(wall_ns=self._now_ns)
            source = LayoutSource(self._folder / f"registry-{scenario.new}")
            Trust(state / "trust", source, "acme", clock).install(self._root)
            for version in VERSIONS[: VERSIONS.index(scenario.old) + 1] if scenario.old else ():
                Machine(state, self._folder / f"registry-{version}", Scenario("", "", version, version), clock).work()

        state.mkdir()
        if _forked(child):
            raise AssertionError(f"{scenario.name}: the state before the update could not be made")


def flip(path: Path, place: float) -> None:
    """Changes one bit of a file, so far in (0 to 1)."""
    data = bytearray(path.read_bytes())
    index = min(int(len(data) * place), len(data) - 1)
    data[index] ^= 1 << (index % 7)
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(mode)


def table(results: Iterable[Result]) -> str:
    """Runs by scenario and what was done to them: all, and those after which the old or the new version served."""
    rows: dict[tuple[str, Hurt], Counter[str]] = {}
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    for result in results:
        row = rows.setdefault((result.scenario, result.hurt), Counter())
        row["runs"] += 1
        row["old" if result.serves == scenarios[result.scenario].old else "new"] += 1
        row["wrong"] += bool(result.problem)
    lines = [f"{'update':<12} {'hurt':<32} {'runs':>5} {'old':>5} {'new':>5} {'wrong':>6}"]
    for (name, hurt), row in rows.items():
        lines.append(f"{name:<12} {hurt.value:<32} {row['runs']:>5} {row['old']:>5} {row['new']:>5} {row['wrong']:>6}")
    return "\n".join(lines)


def _link_aware(_target: Path) -> Callable[[str, str], str]:
    """Copies a tree with its hard links: a view's file and its blob are one file."""
    seen: dict[int, str] = {}

    def copy(source: str, target: str) -> str:
        inode = os.stat(source, follow_symlinks=False).st_ino
        if inode in seen:
            os.link(seen[inode], target)
        else:
            seen[inode] = target
            shutil.copy2(source, target, follow_symlinks=False)
        return target

    return copy


def _forked(child: Callable[[], Any]) -> int:
    """The exit status of a process that does this; negative: the signal that ended it."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _run(child)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run(child: Callable[[], Any]) -> NoReturn:
    try:
        child()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
