"""What a front-end may ask of an engine: the headers of the frames that go there (answers.py has those that come back).

One connection carries one call at a time: one request frame, then one answer, or a stream of answers of which the last
is ``Failure`` or one whose class says ``final``. Tensor bytes travel behind the header, in the order of ``tensors``.
Closing the connection cancels the call.

Every struct is array-like: a field may only be added at the end, with a default, which is how versions get along.
"""

from typing import Literal

import msgspec

from appliance.message import Message
from appliance.tensor_heads import TensorHead
from appliance.types import ParameterValue


class OutputWanted(msgspec.Struct, frozen=True, array_like=True):
    """An output the client asked for; ``classification`` = k > 0 turns it into BYTES of "value:index[:label]"."""

    name: str
    classification: int = 0
    # Where the answer is wanted in memory that both sides see: number of the region on this connection, offset in it
    # and the room there. -1: in the answer's body.
    region: int = -1
    offset: int = 0
    room_bytes: int = 0


class Call(Message):
    """What every request carries. ``deadline_ns`` is on CLOCK_MONOTONIC, which the machine's processes share; 0: none.

    ``priority`` as in the Open Inference Protocol: 1 is the highest, 0 counts as limits.priority_default.
    """

    deadline_ns: int = 0
    priority: int = 0


class InferCall(Call, tag="infer"):
    """Run the model on tensors. No ``outputs`` means all of them, in the model's order.

    ``parameters`` are the model's own, and sequence_id, sequence_start and sequence_end. ``client`` is who asks:
    sequences of two clients are two sequences. ``region_answer``: outputs may be written into region 0, in their order.
    """

    tensors: tuple[TensorHead, ...] = ()
    outputs: tuple[OutputWanted, ...] = ()
    parameters: dict[str, ParameterValue] = {}  # noqa: RUF012 - msgspec copies it
    client: str = ""
    region_answer: bool = False


class ShareCall(Call, tag="share"):
    """Memory for this connection: the descriptor that came with the frame is ``region`` from now on; not answered.

    Without a descriptor and with ``region`` -1, as the first frame of a connection, it says that memory may come.
    Region 0 is the connection's arena, which may be replaced by a larger one; the others are clients', and only their
    first ``nbytes`` are to be used. ``name`` is what the client calls it, for error messages.
    """

    region: int = 0
    nbytes: int = 0
    name: str = ""


class ProfileCall(Call, tag="profile"):
    """Measure the model's operators while it serves, for ``seconds``; the body of the answer is the profile (JSON)."""

    seconds: float = 10.0


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How the next token is chosen. None: the model owner's default (model.toml), else the daemon's, in brackets.

    ``temperature`` [0.8] 0 is greedy. ``top_k`` [40] 0, ``top_p`` [0.95] 1 and ``min_p`` [0.05] 0 switch that filter
    off. ``repeat_penalty`` [1] 1, ``presence_penalty`` [0] 0 and ``frequency_penalty`` [0] 0 are off; they look at the
    last ``repeat_last_n`` [64] tokens, -1: at the whole context. ``seed`` None draws one, told in GenerateDone.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_last_n: int | None = None
    seed: int | None = None


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """The model wants tool ``name`` to be called; ``arguments`` is a JSON object that validates against its schema."""

    id: str
    name: str
    arguments: str


class ChatMessage(msgspec.Struct, frozen=True, array_like=True):
    """One turn: ``role`` is system, user, assistant or tool.

    ``tool_calls`` and ``reasoning`` are an assistant's; ``tool_call_id`` and ``name`` say which call a tool answers.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    reasoning: str = ""


class Tool(msgspec.Struct, frozen=True, array_like=True):
    """A function that the model may ask for; ``parameters`` is the JSON Schema of its arguments, "" for none."""

    name: str
    description: str = ""
    parameters: str = ""


class Constraint(msgspec.Struct, frozen=True, array_like=True):
    """What the answer must look like. ``text`` is a JSON Schema, a regular expression or a grammar.

    "choice" takes ``choices`` instead: the answer is one of them. "json" is any JSON object.
    """

    kind: Literal["json_schema", "json", "regex", "lark", "gbnf", "choice"]
    text: str = ""
    choices: tuple[str, ...] = ()


class GenerateCall(Call, tag="generate"):
    """Continue ``prompt`` (as it is) or answer ``messages`` (through the model's chat template): exactly one is given.

    A last message of the assistant is continued: the answer begins where it ends.
    ``max_tokens`` 0 means as many as the context and the model's limit leave. ``logprobs`` = k > 0 asks for the chosen
    token's and the k best tokens' log-probabilities. ``n`` answers to one prompt have the seeds seed, seed + 1, ...
    ``client`` is who asks, for fairness between clients. ``tool_choice``: "" is "auto" with tools; "named" means the
    tool ``tool_name``. ``adapter`` is the name of a LoRA adapter in model.toml.
    """

    prompt: str | None = None
    messages: tuple[ChatMessage, ...] | None = None
    sampling: Sampling = Sampling()
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int = 0
    client: str = ""
    n: int = 1
    constraint: Constraint | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: Literal["", "auto", "none", "required", "named"] = ""
    tool_name: str = ""
    parallel_tool_calls: bool = True
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    adapter: str = ""


class EmbedCall(Call, tag="embed"):
    """One vector for each text."""

    texts: tuple[str, ...] = ()
    normalize: bool = True
    client: str = ""


class RerankCall(Call, tag="rerank"):
    """How well each document answers the query, by a model that was trained to say so."""

    query: str = ""
    documents: tuple[str, ...] = ()
    client: str = ""


class TokenizeCall(Call, tag="tokenize"):
    """The token ids of a text. ``special``: read control tokens in the text as such; off for untrusted text."""

    text: str = ""
    add_special: bool = True
    special: bool = False


class StatsCall(Call, tag="stats"):
    """What the engine has done so far; answered by the loop itself between two steps."""


AnyCall = InferCall | GenerateCall | EmbedCall | RerankCall | TokenizeCall | StatsCall | ShareCall | ProfileCall
