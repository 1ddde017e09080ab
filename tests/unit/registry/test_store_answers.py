"""The sync process's answers about the store itself: it beats while it reads, and tells how far it is, but not too often."""

import logging
from pathlib import Path

import pytest

from appliance import frames, questions, store_questions
from appliance.clock import FakeClock
from appliance.registry.answers import Answers
from appliance.registry.incoming import Incoming
from appliance.store.store import Store
from tests.support import damaged_stores as damaged


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return damaged.prepare(tmp_path)


class Sync:
    def __init__(self, state: Path) -> None:
        self.store = Store(state)
        self.beats = 0
        self._clock = FakeClock(monotonic_ns=10**12)
        self.told: list[questions.Progress] = []
        self.gone = False
        self._answers = Answers(self.store, Incoming(state), self._beat, self._clock)

    def _beat(self) -> None:
        self.beats += 1
        self._clock.advance(0.03)
        if self.gone:
            raise frames.EndOfStream(partial=False)

    def ask(self, question: questions.Question) -> questions.Answer:
        self.beats = 0
        self.told.clear()
        return self._answers.answer(question, self.told.append)


def test_a_check_and_a_repair_beat_and_tell(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    sync = Sync(state)
    report = sync.ask(store_questions.AskCheckStore())
    assert isinstance(report, store_questions.StoreReport)
    assert report.problem_count == 0
    assert sync.beats >= report.blobs
    assert 0 < len(sync.told) < sync.beats / 2
    assert {p.text for p in sync.told} == {"checking"}
    assert [p.done for p in sync.told] == sorted(p.done for p in sync.told)

    damaged.flip(damaged.file_of(state))
    with caplog.at_level(logging.ERROR):
        sync.ask(store_questions.AskCheckStore())
    assert "press:1.0.0, model.onnx" in caplog.text
    report = sync.ask(store_questions.AskRepairStore())
    assert isinstance(report, store_questions.StoreReport)
    assert [problem.kind for problem in report.problems] == ["blob-rotten"]
    assert sync.told[0].text == "checking and repairing"


def test_garbage_is_collected_with_beats(state: Path) -> None:
    sync = Sync(state)
    for number in range(20):
        (state / "store/blobs/sha256" / f"{number:064}").write_bytes(b"x")
    report = sync.ask(store_questions.AskCollectGarbage(dry_run=True))
    assert isinstance(report, store_questions.GarbageReport)
    assert (report.item_count, sync.beats) == (20, 0)
    assert sync.ask(store_questions.AskCollectGarbage()) == store_questions.GarbageReport(False, report.items, 20, 20)
    assert sync.beats == 20


@pytest.mark.parametrize("question", [store_questions.AskCheckStore(), store_questions.AskRepairStore()])
def test_for_a_dead_supervisor_nothing_is_finished(state: Path, question: questions.Question) -> None:
    sync = Sync(state)
    sync.gone = True
    with pytest.raises(frames.EndOfStream):
        sync.ask(question)
    assert sync.beats == 1


def test_an_answer_fits_a_frame_whatever_is_found(state: Path) -> None:
    sync = Sync(state)
    for number in range(3000):
        (state / "store/blobs/sha256" / f"foreign{number}").write_bytes(b"")
    report = sync.ask(store_questions.AskCheckStore())
    assert isinstance(report, store_questions.StoreReport)
    assert (report.problem_count, len(report.problems)) == (3000, 1000)
