"""The model's chat template: a program out of an untrusted file, run with its output, time and memory bounded.

jinja2's immutable sandbox keeps it from Python's internals; three bounds keep it from the engine's thread:

- Time: SIGVTALRM after ``template_time_ms_max`` of processor time. jinja2's own limit of range() doesn't help against
  nested loops, a check between output chunks never comes in a loop that prints nothing, and a trace function makes
  every template some ten times slower. The engine owns its main thread, where Python delivers signals. (Processor time:
  a busy machine does not change which templates are refused, and the timer of real time stays free for others.)
- Memory: a soft RLIMIT_AS above what the process has now. Without it a dozen of ``x ~ x`` fills the machine within the
  time limit, in ways that no filter list covers (join, replace, center, format...).
- Numbers: what a signal cannot interrupt is one long C call, and ``9**9**9`` is one: powers and products are bounded.

Templates are written for Hugging Face's renderer: its settings, filters and globals are offered here.
"""

import contextlib
import json
import logging
import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from types import FrameType
from typing import Any, NoReturn

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance import events, limits
from appliance.errors import FailedPrecondition, InvalidArgument

_log = logging.getLogger(__name__)
_TIMER_AGAIN_SECONDS = 0.01


class _OutOfTime(BaseException):
    """Not an Exception, so that nothing inside of jinja2 takes it for its own."""


class _Refused(Exception):
    """The template called raise_exception(): these messages are not for it."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox with bounded numbers."""

    intercepted_binops = frozenset(("**", "*"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > limits.template_number_bits_max:
                raise SecurityError("number out of bounds")
        return super().call_binop(context, operator, left, right)


class ChatTemplate:
    """A compiled template.

    Raises FailedPrecondition (CHAT_TEMPLATE_BROKEN) when ``source`` is no template or over the bounds.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        if len(source.encode(errors="replace")) > limits.template_bytes_max:
            raise _broken(f"it has more than {limits.template_bytes_max:,} bytes")
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
        try:
            with _bounded():
                self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise _broken(f"line {error.lineno} is not valid jinja2") from error
        except (_OutOfTime, MemoryError, RecursionError, SyntaxError, ValueError, OverflowError) as error:
            raise _broken("it cannot be compiled within the bounds") from error
        self.source = source
        self._variables = {"bos_token": bos, "eos_token": eos, "documents": None}

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        tools: Sequence[dict[str, Any]] | None = None,
        next_turn: bool = True,
        thinking: bool = True,
    ) -> str:
        """The prompt for the model's next turn, or (``next_turn`` False) the conversation alone.

        ``messages`` and ``tools`` are as conversation.py makes them, their sizes checked. ``thinking`` False asks
        templates that can to keep the model from it. Raises InvalidArgument when the template refuses or exceeds a
        bound.
        """
        variables = {**self._variables, "tools": tools, "add_generation_prompt": next_turn}
        if not thinking:
            # Not given at all otherwise: templates take "undefined" as their model's default.
            variables["enable_thinking"] = False
        try:
            with _bounded():
                return self._join(self._template.generate(messages=messages, **variables))
        except _Refused as error:
            said = str(error)[: limits.template_message_chars_max]
            raise InvalidArgument(
                f"the model's chat template refuses these messages: {said}", reason="CHAT_TEMPLATE_REFUSED"
            ) from None
        except _OutOfTime:
            raise _too_much(f"took more than {limits.template_time_ms_max:,} ms") from None
        except MemoryError:
            raise _too_much(f"took more than {limits.template_memory_bytes_max:,} bytes of memory") from None
        except InvalidArgument:
            raise
        except Exception as error:  # whatever an untrusted template may raise: ZeroDivisionError, UndefinedError, ...
            # Its words may quote the messages: they are not logged.
            _log.warning("chat template failed: %s", type(error).__name__, extra=events.MODEL_TEMPLATE_FAILED.of())
            raise InvalidArgument(
                f"the model's chat template failed on these messages ({type(error).__name__}); "
                "some templates want roles to alternate, or know no system or tool role",
                reason="CHAT_TEMPLATE_FAILED",
            ) from None

    @staticmethod
    def _join(chunks: Iterator[str]) -> str:
        parts, size = [], 0
        for chunk in chunks:
            size += len(chunk.encode(errors="replace"))
            if size > limits.template_output_bytes_max:
                raise _too_much(f"gave more than {limits.template_output_bytes_max:,} bytes of text")
            parts.append(chunk)
        return "".join(parts)


def _broken(what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the model's chat template is unusable: {what}; use Generate, or name another with llama.chat_template "
        "in model.toml",
        reason="CHAT_TEMPLATE_BROKEN",
    )


def _too_much(what: str) -> InvalidArgument:
    return InvalidArgument(f"the model's chat template {what} on these messages", reason="CHAT_TEMPLATE_LIMIT")


def _raise_exception(message: Any) -> NoReturn:
    raise _Refused(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(str(form)[:256])


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_options: Any) -> str:
    # Not jinja2's own filter: that one escapes <, > and & for HTML, which models were not trained on.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=min(indent, 16) if indent else indent)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    with _memory_limit(limits.template_memory_bytes_max), _time_limit(limits.template_time_ms_max / 1000):
        yield


@contextlib.contextmanager
def _memory_limit(more: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", "rb") as file:
        ceiling = int(file.read().split()[0]) * resource.getpagesize() + more
    if (hard != resource.RLIM_INFINITY and ceiling > hard) or (soft != resource.RLIM_INFINITY and ceiling > soft):
        ceiling = soft
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("templates are rendered in the engine's main thread, where signals arrive")
    before = signal.signal(signal.SIGVTALRM, _on_timer)
    # Again and again: one that arrives in a destructor is swallowed there.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _TIMER_AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _on_timer(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _OutOfTime
