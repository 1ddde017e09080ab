"""What an engine may answer to the calls of calls.py: the headers of the frames that come back.

Every struct is array-like: a field may only be added at the end, with a default, which is how versions get along.
"""

from typing import ClassVar

import msgspec

from appliance.calls import ToolCall
from appliance.message import Message
from appliance.tensor_heads import TensorHead
from appliance.types import EngineStats


class InferDone(Message, tag="infer_done"):
    """The outputs of one InferCall."""

    tensors: tuple[TensorHead, ...] = ()
    queue_ns: int = 0
    compute_ns: int = 0
    batch_rows: int = 0


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """Natural logarithm of a token's probability before any sampling filter. ``piece`` may be half a UTF-8 character."""

    token: int
    piece: bytes
    logprob: float


class TokenChoice(msgspec.Struct, frozen=True, array_like=True):
    """The token taken at one place, and the best that could have been."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


class TextPiece(Message, tag="piece"):
    """More of answer ``index``; whole UTF-8 characters only, and never a part of a stop string. ``text`` may be empty.

    ``reasoning`` is what the model thinks aloud before it answers; ``tool_calls`` are complete.
    """

    final: ClassVar[bool] = False

    text: str = ""
    tokens: int = 0
    logprobs: tuple[TokenChoice, ...] = ()
    index: int = 0
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class ChoiceDone(Message, tag="choice_done"):
    """Answer ``done.index`` of several is complete, and others are not yet: the last one's end is a GenerateDone."""

    final: ClassVar[bool] = False

    done: "GenerateDone"


class GenerateDone(Message, tag="generate_done"):
    """The end of a generation. ``reason`` is "stop" (end of turn, a stop string or token), "length" or "tool_calls".

    Prefill and decode are durations in nanoseconds; ``seed`` is the one used. ``reused_tokens`` of the prompt were
    in the cache already. ``drafted_tokens`` were guessed, of which ``accepted_tokens`` were right.
    """

    reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    queue_ns: int = 0
    prefill_ns: int = 0
    decode_ns: int = 0
    seed: int = 0
    stop_string: str = ""
    index: int = 0
    reused_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


class EmbedDone(Message, tag="embed_done"):
    """``count`` vectors of ``dimensions`` little-endian FP32 in the frame's body, row after row."""

    count: int = 0
    dimensions: int = 0
    prompt_tokens: int = 0


class RerankDone(Message, tag="rerank_done"):
    """A score for each document, in their order: the larger the better, comparable within one query."""

    scores: tuple[float, ...] = ()
    prompt_tokens: int = 0


class TokenizeDone(Message, tag="tokenize_done"):
    """The token ids."""

    tokens: tuple[int, ...] = ()


class StatsDone(Message, tag="stats_done"):
    """The engine's counters."""

    stats: EngineStats = msgspec.field(default_factory=EngineStats)


class ProfileDone(Message, tag="profile_done"):
    """What was measured over ``runs`` executions."""

    runs: int = 0


class Failure(Message, tag="failure"):
    """The call failed; code, reason and message as in errors.py."""

    code: str = "INTERNAL"
    reason: str = "INTERNAL"
    message: str = ""


AnyAnswer = (
    InferDone
    | TextPiece
    | ChoiceDone
    | GenerateDone
    | EmbedDone
    | RerankDone
    | TokenizeDone
    | StatsDone
    | ProfileDone
    | Failure
)
