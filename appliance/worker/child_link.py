"""The supervisor's end of a child: its process, its control channel, and the questions on their way to it."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence

from appliance import frames
from appliance.clock import monotonic_ms
from appliance.control import Applied, Ask, FromChild, RegionsApplied, Reloaded, ToChild, Told
from appliance.errors import Unavailable, from_code
from appliance.osutil import child
from appliance.questions import Answer, Progress, Question, Refusal

# Told by a front-end's thread beside its work loop: no proof that the loop turns.
_BESIDE = (Applied, RegionsApplied, Reloaded)

_decoder: "frames.Decoder[FromChild]" = frames.Decoder(FromChild)


class ChildLink:
    """One life of a child process. Never blocks: what the child does not read waits in the transport's buffer."""

    def __init__(self, started: child.Child, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = started.process
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Queue[Answer | None]] = {}
        self._answered = asyncio.Event()
        self._over = False
        self.pid = started.process.pid
        self.started_ms = monotonic_ms()
        self.heard_ms = self.started_ms

    @classmethod
    async def start(cls, module: str, first: ToChild, pass_fds: Sequence[int] = ()) -> "ChildLink":
        """Starts ``python -m module`` and tells it what it is to be; raises OSError when the machine can't."""
        started = child.spawn(module, pass_fds=pass_fds)
        started.control.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=started.control)
        link = cls(started, reader, writer)
        link.send(first)
        return link

    def send(self, message: ToChild) -> None:
        """Queues a message; one to a dead child is lost, as it would be a moment later."""
        if not self._writer.is_closing():
            self._writer.writelines([bytes(piece) for piece in frames.encode(message)])

    async def messages(self) -> AsyncIterator[FromChild]:
        """What the child says, apart from answers, until it is gone. A child that babbles counts as gone."""
        try:
            while True:
                header, body = frames.parse_prefix(await self._reader.readexactly(frames.PREFIX.size))
                message = _decoder.decode(await self._reader.readexactly(header + body))
                if not isinstance(message, _BESIDE):
                    self.heard_ms = monotonic_ms()
                if isinstance(message, Told):
                    answers = self._open.get(message.number)
                    if answers is not None:
                        answers.put_nowait(message.answer)
                else:
                    yield message
        except (asyncio.IncompleteReadError, frames.FrameError, OSError):
            return
        finally:
            self._over = True
            for answers in self._open.values():
                answers.put_nowait(None)

    async def ask(self, question: Question, progress: Callable[[Progress], None] = lambda _: None) -> Answer:
        """The child's answer; raises the ApplianceError of a Refusal, or Unavailable when the child dies over it."""
        number = next(self._numbers)
        answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._open[number] = answers
        if self._over:  # dead, but not yet reaped: nobody would answer
            answers.put_nowait(None)
        try:
            self.send(Ask(number, question))
            while True:
                answer = await answers.get()
                if answer is None:
                    raise Unavailable("the process that does this was stopped: try again", reason="CHILD_DIED")
                if isinstance(answer, Refusal):
                    raise from_code(answer.code, answer.reason, answer.message)
                if not isinstance(answer, Progress):
                    return answer
                progress(answer)
        finally:
            del self._open[number]
            self._answered.set()
            self._answered = asyncio.Event()

    async def idle(self) -> None:
        """Waits until it has answered all that it was asked."""
        while self._open:
            await self._answered.wait()

    def kill(self) -> None:
        """Ends the child at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    async def ended(self) -> int:
        """Waits for the process to end and reaps it: its exit status, negative for a signal."""
        self._writer.close()
        if self._process.poll() is None:
            await _readable(os.pidfd_open(self.pid))
        return self._process.wait()


async def _readable(fd: int) -> None:
    """Returns when ``fd`` is readable (a pidfd is when its process has ended), and closes it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def describe_end(status: int) -> str:
    """An exit status in words: "signal 9 (SIGKILL)" or "exit status 1"."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"signal {-status} ({signal.Signals(-status).name})"
    return f"exit status {status}"
