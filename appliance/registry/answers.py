"""What the sync process answers to each question of the supervisor."""

import logging
from collections.abc import Callable

from appliance import events, frames, questions
from appliance.clock import Clock, SystemClock
from appliance.errors import ApplianceError
from appliance.registry.incoming import Incoming
from appliance.registry.no_registry import UpdateQuestion, without_registry
from appliance.registry.store_answers import StoreAnswers, StoreQuestion
from appliance.store.store import Store

_log = logging.getLogger(__name__)


class Answers:
    """Answers one question after the other. ``beat`` is called often while a question takes long."""

    def __init__(
        self,
        store: Store,
        incoming: Incoming,
        beat: Callable[[], None],
        clock: Clock | None = None,
        of_updates: Callable[[UpdateQuestion], questions.Answer] = without_registry,
    ) -> None:
        """``of_updates`` answers what is asked about the registry."""
        self._of_updates = of_updates
        self._store = store
        self._incoming = incoming
        self._beat = beat
        self._clock = clock or SystemClock()
        self._of_store = StoreAnswers(store, beat, self._clock)

    def answer(self, question: questions.Question, tell: Callable[[questions.Progress], None]) -> questions.Answer:
        """The last answer to ``question``; what comes before it goes to ``tell``."""
        try:
            return self._answer(question, tell)
        except ApplianceError as error:
            return questions.Refusal(error.code.value, error.reason, error.message)
        except frames.EndOfStream:
            raise
        except Exception:
            # The process lives on: a disk that fails today must not take the catalogue away from running models.
            _log.exception("%s failed", type(question).__name__, extra=events.INTERNAL_FAULT.of())
            return questions.Refusal("INTERNAL", "STORE_FAILED", "the model store failed; the daemon's log says why")

    def _answer(self, question: questions.Question, tell: Callable[[questions.Progress], None]) -> questions.Answer:
        store = self._store
        if isinstance(question, questions.AskCatalogue):
            return questions.Catalogue(store.versions(), store.desired())
        if isinstance(question, questions.AskInspect):
            return questions.VersionAnswer(store.get(question.name, question.version))
        if isinstance(question, questions.AskAdd):
            return questions.VersionAnswer(self._add(question.upload, tell))
        if isinstance(question, questions.AskRemove):
            store.remove(question.name, question.version)
            return questions.Nothing()
        if isinstance(question, questions.AskDesire):
            store.set_desired(question.desired)
            return questions.Nothing()
        if isinstance(question, UpdateQuestion):
            return self._of_updates(question)
        if isinstance(question, StoreQuestion):
            return self._of_store.answer(question, tell)
        name = type(question).__name__
        return questions.Refusal("UNIMPLEMENTED", "UNIMPLEMENTED", f"the sync process does not answer {name}")

    def _add(self, upload: str, tell: Callable[[questions.Progress], None]) -> questions.ModelVersion:
        progress = self._of_store.progress("storing", tell)
        stored = False
        try:
            with self._incoming.take(upload) as folder:
                model = self._store.add(folder, consume=True, progress=progress)
            stored = True
        finally:
            if not stored:
                self._sweep()
        facts = events.UPDATE_STORED.of(model.name, model.version)
        _log.info("stored %s:%s (%s, %d bytes)", model.name, model.version, model.digest, model.size_bytes, extra=facts)
        return model

    def _sweep(self) -> None:
        """The next try sends every file again, so what a failed one left only takes room."""
        try:
            self._store.sweep()
        except OSError:
            _log.exception(
                "cleaning up after a failed add failed; the next start tries again", extra=events.STORE_UNKEMPT.of()
            )
