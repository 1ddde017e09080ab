"""One generation in the making: its tokens, how far they are computed, what has been sent, and how long it took."""

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from appliance import limits
from appliance.calls import GenerateCall, GenerateDone, TextPiece, TokenChoice
from appliance.clock import Clock
from appliance.engine.base import Reply
from appliance.engine.llama.sampling.chain import Sampler, SamplingPlan
from appliance.engine.llama.text import TextStream
from appliance.errors import DeadlineExceeded, InvalidArgument

# Looking costs a call into the reply; 500 nodes of a graph are asked in 50 to 500 ms.
_ABORT_CHECK_NS = 5_000_000


class Slot:
    """A sequence id of the context and the tokens whose keys and values the cache holds for it."""

    def __init__(self, seq_id: int) -> None:
        self.seq_id = seq_id
        self.cached: list[int] = []

    def shared_prefix(self, prompt: list[int]) -> int:
        """How many tokens of ``prompt`` need not be computed again; the last always is, for its logits."""
        most = min(len(prompt) - 1, len(self.cached))
        for index in range(most):
            if prompt[index] != self.cached[index]:
                return index
        return most


class Waiter(Protocol):
    """A call with someone who waits for its answer."""

    reply: Reply
    deadline_ns: int


def expired(waiter: Waiter, now_ns: int) -> bool:
    """Whether the call's deadline has passed."""
    return 0 < waiter.deadline_ns <= now_ns


def gone(waiter: Waiter, now_ns: int) -> bool:
    """Whether nobody wants the answer any more."""
    return waiter.reply.cancelled or expired(waiter, now_ns)


def nobody_left(waiters: Iterable[Waiter], clock: Clock) -> Callable[[], bool]:
    """What llama.cpp asks between two nodes of the graph: whether nobody is left who wants this step."""
    next_check = 0

    def abort() -> bool:
        nonlocal next_check
        now = clock.monotonic_ns()
        if now < next_check:
            return False
        next_check = now + _ABORT_CHECK_NS
        return all(gone(waiter, now) for waiter in waiters)

    return abort


def too_late(where: str) -> DeadlineExceeded:
    """The answer to a call whose deadline has passed."""
    return DeadlineExceeded(f"the deadline passed {where}; ask for fewer tokens or allow more time")


class Limits(msgspec.Struct, frozen=True):
    """What a generation may take: the context, and the model's own bound of new tokens (0: none)."""

    context_tokens: int
    max_tokens: int


class Sequence:
    """State of one GenerateCall. ``position`` tokens of ``tokens`` (prompt and answer) are in the cache of ``slot``."""

    def __init__(
        self, call: GenerateCall, reply: Reply, prompt: list[int], plan: SamplingPlan, sampler: Sampler, bounds: Limits
    ) -> None:
        self.reply = reply
        self.deadline_ns = call.deadline_ns
        self.tokens = prompt
        self.prompt_tokens = len(prompt)
        self.position = 0
        self.reused_tokens = 0
        self.slot: Slot | None = None
        self.seed = plan.seed
        self.sampler = sampler
        self.logprobs_top = call.logprobs
        self.max_tokens = most_tokens(call.max_tokens, len(prompt), bounds)
        self.generated = 0
        self.started_ns = 0
        self.first_token_ns = 0
        self._text = TextStream(call.stop)
        self._unsent_tokens = 0

    @property
    def waiting(self) -> int:
        """Tokens that are not computed yet."""
        return len(self.tokens) - self.position

    @property
    def prefilling(self) -> bool:
        """Whether a part of the prompt is not computed yet."""
        return self.position < self.prompt_tokens

    def take(self, token: int, piece: bytes, choice: TokenChoice | None) -> str:
        """Adds a token of the answer and sends what text is certain. Gives the reason to end, or ""."""
        self.tokens.append(token)
        self.generated += 1
        self._unsent_tokens += 1
        text = self._text.push(piece)
        if text or choice is not None:
            self._send(text, (choice,) if choice is not None else ())
        if self._text.stopped_by:
            return "stop"
        return "length" if self.generated >= self.max_tokens else ""

    def done(self, reason: str, now_ns: int) -> None:
        """Sends the text that was held back, and the end."""
        rest = self._text.finish()
        if rest:
            self._send(rest, ())
        first = self.first_token_ns or now_ns
        stopped_by = self._text.stopped_by
        self.reply.finish(
            GenerateDone(
                reason="stop" if stopped_by else reason,
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.generated,
                queue_ns=self.started_ns - self.reply.arrived_ns,
                prefill_ns=first - self.started_ns,
                decode_ns=now_ns - first,
                seed=self.seed,
                stop_string=stopped_by,
            )
        )

    def _send(self, text: str, choices: tuple[TokenChoice, ...]) -> None:
        self.reply.send(TextPiece(text, self._unsent_tokens, choices))
        self._unsent_tokens = 0


def most_tokens(asked: int, prompt_tokens: int, bounds: Limits) -> int:
    """How many tokens the answer may have.

    The last one is never computed, so a prompt that fills the whole context still gets one.
    """
    room = bounds.context_tokens - prompt_tokens + 1
    return min(room, asked or bounds.max_tokens or room)


def check_options(call: GenerateCall, bounds: Limits) -> None:
    """Raises InvalidArgument for max_tokens, stop or logprobs out of their bounds."""
    if call.max_tokens < 0:
        raise InvalidArgument(f"max_tokens is {call.max_tokens}, allowed: 0 (as many as there is room for) or more")
    if bounds.max_tokens and call.max_tokens > bounds.max_tokens:
        raise InvalidArgument(f"max_tokens is {call.max_tokens:,}, this model allows at most {bounds.max_tokens:,}")
    if not 0 <= call.logprobs <= limits.logprobs_top_max:
        raise InvalidArgument(f"logprobs is {call.logprobs}, allowed: 0 to {limits.logprobs_top_max}")
    if len(call.stop) > limits.stop_strings_max:
        raise InvalidArgument(f"{len(call.stop):,} stop strings, at most {limits.stop_strings_max} are allowed")
    for number, stop in enumerate(call.stop):
        size = len(stop.encode(errors="replace"))
        if not 0 < size <= limits.stop_string_bytes_max:
            raise InvalidArgument(
                f"stop string {number} has {size:,} bytes, allowed: 1 to {limits.stop_string_bytes_max}"
            )
