"""A conversation with a language model: its history, one streamed answer, and the loop of a person at a terminal."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from appliance.cli.answer_display import Display
from appliance.cli.client import Client, explain
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.pb.appliance.v1 import generation_pb2 as pb

HELP = "/reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C stops an answer"
# A reset or a shorter conversation helps; the person may go on.
_GOES_ON = {ExitCode.INVALID_INPUT, ExitCode.UNAVAILABLE, ExitCode.TIMED_OUT, ExitCode.FAILED}


class Answer:
    """What came of one answer: its text, thoughts and tool calls, and how it ended (None when it was stopped)."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.tool_calls: list[pb.ToolCall] = []
        self.finished: pb.Finished | None = None
        self.model = ""
        self.version = ""


class Stream:
    """A call's responses, received by a thread of its own.

    Ctrl-C raises KeyboardInterrupt wherever the main thread is. Inside gRPC that left the channel's lock held (in one
    of four tries), and the next call hung in channel_spin. A queue may be interrupted anywhere.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._queue: queue.SimpleQueue[pb.GenerateResponse | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._receive, daemon=True).start()

    def __iter__(self) -> Iterator[pb.GenerateResponse]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def cancel(self) -> None:
        """Ends the call; what has not been read is lost."""
        self._call.cancel()

    def _receive(self) -> None:
        try:
            for response in self._call:
                self._queue.put(response)
            self._queue.put(None)
        except Exception as error:
            self._queue.put(error)


class Conversation:
    """Keeps the messages; asks the model with all of them each time."""

    def __init__(self, client: Client, request: pb.ChatRequest) -> None:
        """``request`` is what each question has: the model, the options, the tools, a system message if there is one."""
        self._client = client
        self._request = request
        self.messages: list[pb.ChatMessage] = []
        self.reset()

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.messages = list(self._request.messages)

    def ask(self, question: str, display: Display) -> Answer:
        """Streams the answer to ``display``. Ctrl-C (KeyboardInterrupt) stops the answer and keeps what came.

        Raises CommandFailed; the question is then not part of the history.
        """
        asked = [*self.messages, pb.ChatMessage(role="user", content=question)]
        request = pb.ChatRequest()
        request.CopyFrom(self._request)
        del request.messages[:]
        request.messages.extend(asked)
        answer = Answer()
        stream = Stream(self._client.generation.Chat(request, timeout=self._client.timeout))
        try:
            self._receive(stream, answer, display)
        except KeyboardInterrupt:
            stream.cancel()
        except grpc.RpcError as error:
            raise explain(error, self._client.place) from error
        finally:
            display.end()
        said = pb.ChatMessage(
            role="assistant", content=answer.text, tool_calls=answer.tool_calls, reasoning=answer.reasoning
        )
        self.messages = [*asked, said]
        return answer

    def _receive(self, stream: "Stream", answer: Answer, display: Display) -> None:
        for response in stream:
            answer.model = response.model or answer.model
            answer.version = response.version or answer.version
            answer.text += response.text
            answer.reasoning += response.reasoning
            answer.tool_calls.extend(response.tool_calls)
            display.show(response)
            if response.HasField("finished"):
                answer.finished = response.finished
        if answer.finished is None:
            raise CommandFailed(ExitCode.FAILED, "the answer broke off")


def converse(
    conversation: Conversation,
    read_line: Callable[[], str],
    display: Display,
    note: Callable[[str], None],
) -> None:
    """Questions and answers until /quit or the end of input. What goes wrong with one answer is said, and it goes on."""
    while True:
        try:
            question = read_line().strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            note(f"\n{HELP}")
            continue
        if question in ("/quit", "/exit"):
            return
        if question == "/reset":
            conversation.reset()
            note("The conversation is forgotten.")
        elif question.startswith("/") and " " not in question:
            note(HELP)
        elif question:
            _turn(conversation, question, display, note)


def _turn(conversation: Conversation, question: str, display: Display, note: Callable[[str], None]) -> None:
    try:
        answer = conversation.ask(question, display)
    except CommandFailed as failed:
        if failed.exit_code not in _GOES_ON:
            raise
        note(failed.message)
        return
    # A second Ctrl-C, while this is printed, must not end the program either.
    with contextlib.suppress(KeyboardInterrupt):
        note(summary(answer))


def summary(answer: Answer) -> str:
    """How an answer ended: ``24 tokens, 31.2 tokens/s``."""
    finished = answer.finished
    if finished is None:
        return "(stopped)"
    tokens = finished.usage.completion_tokens
    rate = f", {tokens * 1000 / finished.decode_ms:.1f} tokens/s" if finished.decode_ms > 0 else ""
    cut = ", cut at the limit of tokens" if finished.reason == pb.Finished.LENGTH else ""
    calls = ", it wants tools to be called" if finished.reason == pb.Finished.TOOL_CALLS else ""
    return f"({tokens} tokens{rate}{cut}{calls})"
