"""What the sync process answers when the store itself is asked about: is it whole, make it whole, throw away what is unused."""

import logging
from collections.abc import Callable

from appliance import events, questions, store_questions
from appliance.clock import Clock
from appliance.store.ingest import Progress
from appliance.store.store import Store

_log = logging.getLogger(__name__)

_PROGRESS_INTERVAL_NS = 100_000_000

Tell = Callable[[questions.Progress], None]
StoreQuestion = store_questions.AskCheckStore | store_questions.AskRepairStore | store_questions.AskCollectGarbage


class StoreAnswers:
    """Answers one question after the other. ``beat`` is called often while a question takes long."""

    def __init__(self, store: Store, beat: Callable[[], None], clock: Clock) -> None:
        self._store = store
        self._beat = beat
        self._clock = clock

    def answer(self, question: StoreQuestion, tell: Tell) -> questions.Answer:
        """The last answer to ``question``; what comes before it goes to ``tell``."""
        if isinstance(question, store_questions.AskCheckStore):
            return self._noted(self._store.check(self.progress("checking", tell)))
        if isinstance(question, store_questions.AskRepairStore):
            return self._noted(self._store.repair(self.progress("checking and repairing", tell)))
        return self._store.collect_garbage(dry_run=question.dry_run, set_aside=question.set_aside, beat=self._beat)

    def progress(self, text: str, tell: Tell) -> Progress:
        """Beats each time, and tells how far it is some times a second."""
        told_ns = 0

        def progress(done: int, total: int) -> None:
            nonlocal told_ns
            self._beat()
            now = self._clock.monotonic_ns()
            if now - told_ns >= _PROGRESS_INTERVAL_NS:
                told_ns = now
                tell(questions.Progress(text, done, total))

        return progress

    @staticmethod
    def _noted(report: store_questions.StoreReport) -> store_questions.StoreReport:
        """A damage that an operator was told belongs into the log as well."""
        for problem in report.problems:
            whose = f" ({', '.join(problem.models)}, {problem.file or problem.kind})" if problem.models else ""
            _log.error(
                "the store is damaged: %s%s %s: %s",
                problem.place,
                whose,
                problem.wrong,
                problem.todo,
                extra=events.STORE_DAMAGED.of(),
            )
        return report
