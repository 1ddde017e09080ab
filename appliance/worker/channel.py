"""A child's end of the control channel, for processes with several threads (front-ends)."""

import itertools
import queue
import socket
import threading
from collections.abc import Callable, Iterator

from appliance import frames
from appliance.control import Ask, Control, FromChild, ToChild, Told
from appliance.errors import ApplianceError, Unavailable, from_code
from appliance.questions import Answer, Progress, Question, Refusal

_decoder: "frames.Decoder[ToChild]" = frames.Decoder(ToChild)


class ControlChannel:
    """Sends from any thread; one thread of the owner's receives and gets what is not an answer to a question."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._inbox = frames.Inbox(sock)
        self._send_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Answer | None]] = {}
        self._closed = False

    def send(self, message: FromChild) -> None:
        """Raises OSError when the supervisor is gone."""
        with self._send_lock:
            frames.send(self._sock, message)

    def receive_first(self) -> Control:
        """The message that tells this child what it is to be."""
        frame = self._inbox.next()
        assert frame is not None  # the socket blocks
        return _decoder.decode(frame[0])

    def run(self, handle: Callable[[ToChild], None]) -> None:
        """Receives until the supervisor closes the channel; then every open question fails."""
        try:
            while True:
                frame = self._inbox.next()
                assert frame is not None  # the socket blocks
                message = _decoder.decode(frame[0])
                if isinstance(message, Told):
                    self._deliver(message)
                else:
                    handle(message)
        except (frames.EndOfStream, OSError):
            return
        finally:
            self._closed = True
            for answers in list(self._waiting.values()):
                answers.put(None)

    def _deliver(self, told: Told) -> None:
        answers = self._waiting.get(told.number)
        if answers is not None:
            answers.put(told.answer)

    def ask(self, question: Question, timeout: float | None = None) -> Iterator[Answer]:
        """Yields Progress as it comes and at last the answer.

        Raises the ApplianceError that a Refusal carries, or Unavailable when the supervisor goes away or says nothing
        for ``timeout`` seconds.
        """
        number = next(self._numbers)
        answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._waiting[number] = answers
        try:
            if self._closed:
                raise Unavailable("the daemon is stopping", reason="STOPPING")
            self.send(Ask(number, question))
            while True:
                answer = _next_answer(answers, timeout)
                if isinstance(answer, Refusal):
                    raise from_code(answer.code, answer.reason, answer.message)
                yield answer
                if not isinstance(answer, Progress):
                    return
        finally:
            del self._waiting[number]


def _next_answer(answers: "queue.SimpleQueue[Answer | None]", timeout: float | None) -> Answer:
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise Unavailable("the daemon did not answer in time", reason="SUPERVISOR_SILENT") from None
    if answer is None:
        raise Unavailable("the daemon is stopping", reason="STOPPING")
    return answer


def last(answers: Iterator[Answer]) -> Answer:
    """The answer behind any progress."""
    answer: Answer | None = None
    for answer in answers:  # noqa: B007
        pass
    if answer is None:
        raise ApplianceError("no answer")
    return answer
