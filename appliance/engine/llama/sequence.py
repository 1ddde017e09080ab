"""One answer in the making: its tokens, how far they are computed, what has been sent, and how long it took."""

from collections.abc import Callable

from appliance.answers import ChoiceDone, GenerateDone, TextPiece, TokenChoice
from appliance.calls import GenerateCall
from appliance.engine.base import Reply
from appliance.engine.llama.cache.kv_cache import Seat
from appliance.engine.llama.chat.answer import Parsed
from appliance.engine.llama.chat.prompt import Prompt
from appliance.engine.llama.sampling.chooser import Chooser
from appliance.engine.llama.text import TextStream
from appliance.errors import ApplianceError


class Answers:
    """The answers to one call, of which there are ``n``: they end one by one, and fail together."""

    def __init__(self, reply: Reply, n: int) -> None:
        self.reply = reply
        self.left = n

    def end(self, done: GenerateDone) -> bool:
        """One answer is complete. Whether it was the last."""
        self.left -= 1
        if self.left:
            self.reply.send(ChoiceDone(done))
            return False
        self.reply.finish(done)
        return True

    def fail(self, error: ApplianceError) -> None:
        """None of them will be complete."""
        if not self.reply.cancelled:
            self.reply.fail(error)
        self.left = 0


class Sequence:
    """State of one answer. ``position`` tokens of ``tokens`` (prompt and answer) are in the cache, at ``seat``."""

    def __init__(
        self,
        number: int,
        call: GenerateCall,
        index: int,
        answers: Answers,
        prompt: Prompt,
        chooser: Chooser,
        seed: int,
        max_tokens: int,
        piece: Callable[[int], bytes],
    ) -> None:
        self.number = number
        self.index = index
        self.answers = answers
        self.reply = answers.reply
        self.deadline_ns = call.deadline_ns
        self.priority = call.priority
        self.client = call.client
        self.adapter = call.adapter
        self.tokens = list(prompt.tokens)
        self.prompt_tokens = len(prompt.tokens)
        self.seat: Seat | None = None
        self.chooser = chooser
        self.seed = seed
        self.max_tokens = max_tokens
        self.generated = 0
        self.reused_tokens = 0
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self.started_ns = 0
        self.first_token_ns = 0
        self.waits_for_reader_since_ns = 0
        self._stop_token_ids = frozenset(call.stop_token_ids)
        self._piece = piece
        self._text = TextStream(call.stop)
        self._parser = prompt.parser()
        self._unsent_tokens = 0
        self._called_tools = False

    @property
    def position(self) -> int:
        """Tokens that are computed."""
        return self.seat.position if self.seat else 0

    @property
    def waiting(self) -> int:
        """Tokens that are not computed yet."""
        return len(self.tokens) - self.position

    @property
    def prefilling(self) -> bool:
        """Whether a part of the prompt is not computed yet, or of an answer that had lost its room."""
        return not self.generated or self.waiting > 1

    @property
    def most_drafts(self) -> int:
        """How many tokens may be guessed: the last one of an answer is chosen without being computed."""
        return self.max_tokens - self.generated - 1

    def take(self, token: int, choice: TokenChoice | None) -> str:
        """Adds a token of the answer and sends what text is certain. Gives the reason to end, or ""."""
        self.tokens.append(token)
        self.generated += 1
        self._unsent_tokens += 1
        if token in self._stop_token_ids:
            self._send(Parsed(), choice)
            return "stop"
        text = self._text.push(self._piece(token))
        if text or choice is not None:
            self._send(self._parser.push(text), choice)
        if self._text.stopped_by or (self.chooser.mask and self.chooser.mask.complete):
            return "stop"
        return "length" if self.generated >= self.max_tokens else ""

    def done(self, reason: str, now_ns: int) -> bool:
        """Sends the text that was held back, and the end. Whether this was the call's last answer."""
        rest = self._text.finish()
        if rest:
            self._send(self._parser.push(rest), None)
        self._send(self._parser.finish(), None)
        stopped_by = self._text.stopped_by
        reason = "stop" if stopped_by else reason
        first = self.first_token_ns or now_ns
        return self.answers.end(
            GenerateDone(
                reason="tool_calls" if self._called_tools and reason == "stop" else reason,
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.generated,
                queue_ns=self.started_ns - self.reply.arrived_ns,
                prefill_ns=first - self.started_ns,
                decode_ns=now_ns - first,
                seed=self.seed,
                stop_string=stopped_by,
                index=self.index,
                reused_tokens=self.reused_tokens,
                drafted_tokens=self.drafted_tokens,
                accepted_tokens=self.accepted_tokens,
            )
        )

    def _send(self, parsed: Parsed, choice: TokenChoice | None) -> None:
        if not (parsed.text or parsed.reasoning or parsed.tool_calls or choice):
            return
        self._called_tools = self._called_tools or bool(parsed.tool_calls)
        choices = (choice,) if choice else ()
        self.reply.send(
            TextPiece(parsed.text, self._unsent_tokens, choices, self.index, parsed.reasoning, parsed.tool_calls)
        )
        self._unsent_tokens = 0

    def close(self) -> None:
        """Frees what the chooser has."""
        self.chooser.close()
