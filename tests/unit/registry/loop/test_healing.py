"""A repair that fetches back what has rotted, over real HTTP: from where the line is released, and otherwise saying why not."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from damaged_stores import flip
from delta_rig import Headquarters, Machine
from registry_simulator import Fault, RegistrySimulator

from appliance import limits
from appliance.clock import FakeClock, SystemClock
from appliance.config import RegistryConfig
from appliance.registry.loop import healing
from appliance.registry.loop.healing import Healer, repositories_of
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.release import Release
from appliance.registry.sources.base import Source
from appliance.registry.sources.layout import LayoutSource
from appliance.store.manifest import digest_of
from appliance.sync_questions import Visit

WEIGHTS = bytes(range(256)) * 4000


class Patient:
    """A machine with one version, and what heals it. ``known``: the releases that it has heard of."""

    def __init__(self, folder: Path, registry: RegistrySimulator) -> None:
        self.registry = registry
        self.machine = Machine(folder, registry.url)
        self.release = Headquarters(folder, registry).release("1.0.0", WEIGHTS, b"")
        self.machine.bring(self.release)
        self.store = self.machine.store
        self.known: list[Release] = [self.release]
        self.clock: FakeClock | SystemClock = SystemClock()
        self.sources: Callable[..., list[Source]] = lambda sleep: healing.sources_of(
            RegistryConfig(url=registry.url), sleep, None
        )
        self.heal()
        registry.seen.clear()

    def heal(self) -> None:
        blobs, refs = self.store.blobs, lambda: self.store.refs
        healer = Healer(
            self.machine.state,
            blobs,
            self._sources,
            Bandwidth(),
            lambda: self.known,
            refs,
            self.clock,
        )
        self.store.heal_with(healer.fetch)

    def _sources(self, sleep: Callable[[float], None]) -> list[Source]:
        return self.sources(sleep)  # whatever a test has put there by now

    def blob(self, data: bytes | str) -> Path:
        name = data if isinstance(data, str) else digest_hex(data)
        return self.store.blobs.path(name)

    def is_well(self) -> bool:
        return self.store.check().problems == () and self.machine.holds(self.release, WEIGHTS)


def digest_hex(data: bytes) -> str:
    return digest_of(data)[7:]


@pytest.fixture
def registry() -> Iterator[RegistrySimulator]:
    with RegistrySimulator().running() as running:
        yield running


@pytest.fixture
def patient(tmp_path: Path, registry: RegistrySimulator, monkeypatch: pytest.MonkeyPatch) -> Patient:
    monkeypatch.setattr("appliance.limits.http_retry_base_s", 0.001)
    return Patient(tmp_path, registry)


def lose_view_and(spoil: Callable[[Path], object]) -> Callable[[Patient], None]:
    """Of the blob with the weights: without its view, nothing on this disk has the bytes."""

    def damage(patient: Patient) -> None:
        path = patient.blob(WEIGHTS)
        (Path(patient.store.get("press").folder) / "model.onnx").unlink()
        spoil(path)

    return damage


def rot_manifest(patient: Patient) -> None:
    """And model.toml, from which it could be made anew."""
    flip(patient.blob(patient.release.digest[7:]))
    view = Path(patient.store.get("press").folder)
    flip(view / "model.toml")


DAMAGE = {
    "rotten": lambda patient: flip(patient.blob(WEIGHTS)),
    "gone": lose_view_and(Path.unlink),
    "cut": lambda patient: (patient.blob(WEIGHTS).chmod(0o644), patient.blob(WEIGHTS).write_bytes(WEIGHTS[:-5])),
    "manifest": rot_manifest,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_rotted_comes_back(patient: Patient, name: str) -> None:
    DAMAGE[name](patient)
    assert patient.store.check().problems
    report = patient.store.repair()
    assert report.problems == ()
    assert any("fetched again" in problem.todo for problem in report.healed)
    assert patient.is_well()
    assert not any((patient.machine.state / "healing/partial").glob("*"))


def test_a_version_that_was_withdrawn_heals_from_its_line(patient: Patient) -> None:
    patient.known = [msgspec.structs.replace(patient.release, version="2.0.0", digest="sha256:" + "0" * 64)]
    flip(patient.blob(WEIGHTS))
    assert patient.store.repair().problems == ()
    assert patient.is_well()


def test_what_is_released_nowhere_has_nowhere_to_come_from(patient: Patient) -> None:
    patient.known = [msgspec.structs.replace(patient.release, line="other")]
    flip(patient.blob(WEIGHTS))
    report = patient.store.repair()
    assert [problem.kind for problem in report.problems] == ["blob-missing"]  # nothing runs: it is set aside
    assert "nothing of press is released" in report.problems[0].todo
    assert "appliance models add FOLDER" in report.problems[0].todo
    assert patient.registry.seen == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=404), "404|no blob|has no"),
        (Fault(status=403), "403|refuse|not"),
        (Fault(corrupt=5), "another digest"),
        (Fault(before=True), "registry|127"),
        (Fault(cut=0), "127"),
    ],
)
def test_a_registry_that_does_not_have_it(patient: Patient, fault: Fault, words: str) -> None:
    patient.registry.always["blob"] = fault
    flip(patient.blob(WEIGHTS))
    (problem,) = patient.store.repair().problems
    assert "it could not be fetched (" in problem.todo
    assert re.search(words, problem.todo)
    # A later repair is better off.
    patient.registry.always.clear()
    assert patient.store.repair().problems == ()
    assert patient.is_well()


def test_what_came_before_the_line_broke_is_not_fetched_again(patient: Patient) -> None:
    patient.registry.faults["blob"] = [Fault(cut=600_000)]
    patient.registry.always["blob"] = Fault(before=True)
    flip(patient.blob(WEIGHTS))
    assert len(patient.store.repair().problems) == 1
    patient.registry.always.clear()
    patient.registry.sent = 0
    assert patient.store.repair().problems == ()
    assert patient.registry.sent == len(WEIGHTS) - 600_000


@pytest.mark.parametrize("stick", ["", "right", "gone", "no layout"])
def test_the_stick_that_was_brought_last_is_asked_when_the_registry_is_away(
    patient: Patient, tmp_path: Path, stick: str
) -> None:
    layout = tmp_path / "stick"
    if stick in ("right", "no layout"):
        (layout / "blobs/sha256").mkdir(parents=True)
    if stick == "right":
        (layout / "blobs/sha256" / digest_hex(WEIGHTS)).write_bytes(WEIGHTS)
        (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (layout / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    visit = Visit(str(layout), 1) if stick else None
    patient.sources = lambda sleep: healing.sources_of(RegistryConfig(url="offline:"), sleep, visit)
    flip(patient.blob(WEIGHTS))
    report = patient.store.repair()
    assert (report.problems == ()) == (stick == "right")
    if report.problems:
        assert "offline" in report.problems[0].todo


def test_it_beats_while_it_waits_and_stops_when_nobody_waits_any_more(patient: Patient) -> None:
    """A registry that says nothing: the repair's own beat goes on, and what it raises ends the repair."""
    stalled = threading.Event()
    patient.registry.always["blob"] = Fault(cut=10, stall=stalled)
    flip(patient.blob(WEIGHTS))
    beats = [0]

    class GoneError(Exception):
        pass

    def progress(done: int, total: int) -> None:
        if patient.registry.asked("blob"):
            beats[0] += 1
            if beats[0] == 5:
                raise GoneError

    with pytest.raises(GoneError):
        patient.store.repair(progress)
    stalled.set()


def test_it_does_not_wait_for_ever(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(LayoutSource):
        def blob(self, *words: object, **more: object):  # type: ignore[no-untyped-def,override]
            patient.clock.advance(limits.heal_blob_s_max + 1)  # type: ignore[union-attr]
            patient.sleep(30)  # as between two tries
            return super().blob(*words, **more)  # type: ignore[arg-type]

    def sources(sleep: Callable[[float], None]) -> list[Source]:
        patient.sleep = sleep  # type: ignore[attr-defined]
        return [Slow(Path("/nowhere"))]

    patient.clock = FakeClock(monotonic_ns=10**12)
    patient.sources = sources
    patient.heal()
    flip(patient.blob(WEIGHTS))
    (problem,) = patient.store.repair().problems
    assert "stopped" in problem.todo


def test_leftovers_of_what_nothing_needs_any_more_go(patient: Patient) -> None:
    partial = patient.machine.state / "healing/partial"
    partial.mkdir(parents=True)
    (partial / f"{'0' * 64}.partial").write_bytes(b"x")
    flip(patient.blob(WEIGHTS))
    patient.store.repair()
    assert list(partial.iterdir()) == []


def test_repositories() -> None:
    def of(line: str, place: str, counter: int) -> Release:
        return Release(line, "1.0.0", place, "sha256:" + "0" * 64, 1, 1, counter, 1)

    known = [of("a", "x/old", 1), of("a", "x/new", 3), of("a", "x/old", 2), of("b", "y", 9)]
    assert repositories_of(frozenset({"a"}), known) == ["x/new", "x/old"]
    assert repositories_of(frozenset({"a", "b"}), known) == ["y", "x/new", "x/old"]
    assert repositories_of(frozenset({"c"}), known) == []
    assert repositories_of(frozenset(), known) == []
