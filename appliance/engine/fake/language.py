"""A language model that says the prompt again, one word a step."""

import re
import struct
import time
import zlib
from collections import deque

import msgspec

from appliance.answers import EmbedDone, GenerateDone, TextPiece, TokenChoice, TokenizeDone, TokenLogprob
from appliance.calls import AnyCall, EmbedCall, GenerateCall, RerankCall, TokenizeCall
from appliance.engine.base import Engine, Reply
from appliance.engine.fake.behaviour import Behaviour
from appliance.engine.fake.script import Script
from appliance.errors import ApplianceError, DeadlineExceeded, InvalidArgument, ResourceExhausted, Unimplemented
from appliance.types import EngineStats, ModelKind, ModelSignature, TensorSpec

# A token is a word with the white space before it.
_TOKEN = re.compile(r"\s*\S+|\s+$")


class FakeLanguageEngine(Engine):
    """Every step gives each running generation one word; embeddings and token ids are made from checksums."""

    def __init__(self, script: Script, queue_max: int, max_tokens: int = 0) -> None:
        self._script = script
        self._behaviour = Behaviour(script)
        self._queue_max = queue_max
        self._max_tokens = max_tokens
        self._running: deque[_Generation] = deque()
        self._instant: deque[tuple[EmbedCall | TokenizeCall, Reply]] = deque()
        self._stats = EngineStats()

    def signature(self) -> ModelSignature:
        return ModelSignature(
            kind=ModelKind.LANGUAGE,
            platform="fake",
            inputs=(
                TensorSpec("text_input", "BYTES", (1,)),
                TensorSpec("stream", "BOOL", (1,), optional=True),
                TensorSpec("sampling_parameters", "BYTES", (1,), optional=True),
            ),
            outputs=(TensorSpec("text_output", "BYTES", (1,)),),
            decoupled=True,
            context_tokens_max=self._script.context_tokens,
            embeds=True,
            chats=True,
        )

    def warm_up(self) -> None:
        """Nothing to warm."""

    def submit(self, call: AnyCall, tensors: object, reply: Reply) -> None:  # noqa: ARG002  # the contract's
        if len(self._running) + len(self._instant) >= self._queue_max:
            raise ResourceExhausted(f"{self._queue_max} requests already wait", reason="QUEUE_FULL")
        if isinstance(call, EmbedCall | TokenizeCall):
            self._instant.append((call, reply))
        elif isinstance(call, GenerateCall):
            _refuse_what_is_not_done(call)
            self._running.append(_Generation(call, reply, self._script.context_tokens, self._max_tokens))
        elif isinstance(call, RerankCall):
            raise Unimplemented("this model does not rerank", reason="NO_RERANK")
        else:
            raise Unimplemented("this model takes text")

    def has_work(self) -> bool:
        return bool(self._running or self._instant)

    def step(self) -> None:
        self._behaviour.delay()
        while self._instant:
            self._answer(*self._instant.popleft())
        for _ in range(len(self._running)):
            generation = self._running.popleft()
            if generation.reply.cancelled:
                self._stats.cancel_count += 1
            elif self._advance(generation):
                self._running.append(generation)

    def _advance(self, generation: "_Generation") -> bool:
        """Whether the generation goes on."""
        try:
            if generation.started_ns == 0:
                self._behaviour.before(generation.prompt.encode())
                self._stats.tokens_in += generation.prompt_tokens
            goes_on = generation.advance(time.monotonic_ns())
        except ApplianceError as error:
            self._stats.fail_count += 1
            self._stats.fail_ns += max(0, time.monotonic_ns() - generation.reply.arrived_ns)
            generation.reply.fail(error)
            return False
        if not goes_on:
            self._stats.tokens_out += generation.made
            self._succeeded(generation.reply)
        return goes_on

    def _answer(self, call: EmbedCall | TokenizeCall, reply: Reply) -> None:
        if reply.cancelled:
            self._stats.cancel_count += 1
            return
        if isinstance(call, TokenizeCall):
            reply.finish(TokenizeDone(tuple(_id(t) for t in _TOKEN.findall(call.text))))
        else:
            size = self._script.dimensions
            rows = b"".join(_vector(text, size, call.normalize) for text in call.texts)
            words = sum(len(_TOKEN.findall(text)) for text in call.texts)
            reply.finish(EmbedDone(len(call.texts), size, words), [rows])
        self._succeeded(reply)

    def _succeeded(self, reply: Reply) -> None:
        self._behaviour.answered()
        stats = self._stats
        stats.success_count += 1
        stats.inference_count += 1
        stats.execution_count += 1
        stats.success_ns += max(0, time.monotonic_ns() - reply.arrived_ns)
        stats.last_inference_ms = time.time_ns() // 1_000_000

    def stats(self) -> EngineStats:
        return msgspec.structs.replace(self._stats, running=len(self._running), waiting=len(self._instant))

    def close(self) -> None:
        self._behaviour.close()


def _refuse_what_is_not_done(call: GenerateCall) -> None:
    """Better no answer than one that looks as if it were what was asked for."""
    asked = {
        "n": call.n > 1,
        "constraint": call.constraint is not None,
        "tool_choice": call.tool_choice in ("required", "named"),
        "min_tokens": call.min_tokens > 0,
        "ignore_eos": call.ignore_eos,
        "stop_token_ids": bool(call.stop_token_ids),
        "logit_bias": bool(call.logit_bias),
        "adapter": bool(call.adapter),
    }
    for option, given in asked.items():
        if given:
            raise Unimplemented(f"this model knows nothing of {option}", reason="OPTION")


class _Generation:
    """One running call: the words still to come, and the text held back because a stop string may begin in it."""

    def __init__(self, call: GenerateCall, reply: Reply, context_tokens: int, max_tokens: int) -> None:
        if (call.prompt is None) == (not call.messages):
            raise InvalidArgument("give either prompt or messages")
        self.prompt = call.messages[-1].content if call.messages else call.prompt or ""
        self.reply = reply
        self.started_ns = 0
        self.made = 0
        words = _TOKEN.findall(self.prompt)
        self.prompt_tokens = len(words)
        if self.prompt_tokens > context_tokens:
            raise InvalidArgument(
                f"the prompt has {self.prompt_tokens} tokens, the context holds {context_tokens}",
                reason="CONTEXT_OVERFLOW",
            )
        self._call = call
        self._words = deque(words)
        self._limit = min(n for n in (call.max_tokens, max_tokens, context_tokens) if n)
        self._held = ""

    def advance(self, now_ns: int) -> bool:
        """Says one word more, or ends: whether there is more to come."""
        if 0 < self._call.deadline_ns <= now_ns:
            raise DeadlineExceeded("the deadline passed")
        self.started_ns = self.started_ns or now_ns
        if not self._words:
            return self._end("stop", self._held)
        if self.made >= self._limit:
            return self._end("length", self._held)
        word = self._words.popleft()
        self.made += 1
        text = self._held + word
        found = [(text.find(s), s) for s in self._call.stop if s and s in text]
        if found:
            at, stop = min(found)
            return self._end("stop", text[:at], stop)
        keep = _possible_stop(text, self._call.stop)
        self._held = text[len(text) - keep :]
        self.reply.send(TextPiece(text[: len(text) - keep], 1, self._logprobs(word)))
        return True

    def _end(self, reason: str, text: str, stop: str = "") -> bool:
        if text:
            self.reply.send(TextPiece(text, 0))
        now = time.monotonic_ns()
        self.reply.finish(
            GenerateDone(
                reason=reason,
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.made,
                queue_ns=max(0, self.started_ns - self.reply.arrived_ns),
                decode_ns=now - self.started_ns,
                seed=self._call.sampling.seed or 0,
                stop_string=stop,
            )
        )
        return False

    def _logprobs(self, word: str) -> tuple[TokenChoice, ...]:
        if not self._call.logprobs:
            return ()
        token = TokenLogprob(_id(word), word.encode(), 0.0)  # the only word possible
        return (TokenChoice(token, (token,)),)


def _possible_stop(text: str, stops: tuple[str, ...]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a stop string."""
    longest = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:size]):
                longest = size
                break
    return longest


def _id(text: str) -> int:
    return zlib.crc32(text.encode()) % 50_000


def _vector(text: str, size: int, normalize: bool) -> bytes:
    numbers = [zlib.crc32(f"{i}:{text}".encode()) / 2**32 - 0.5 for i in range(size)]
    length = sum(n * n for n in numbers) ** 0.5 if normalize else 1.0
    return struct.pack(f"<{size}f", *(n / (length or 1.0) for n in numbers))
