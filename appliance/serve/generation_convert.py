"""From appliance.v1's messages to an engine's calls, and from its answers back. Pure.

Only what has no form as a call is refused here; generation_checks.py refuses the rest.
"""

from array import array
from typing import Literal

from appliance.answers import EmbedDone, GenerateDone, TextPiece, TokenChoice, TokenLogprob
from appliance.calls import ChatMessage, Constraint, GenerateCall, Sampling, Tool, ToolCall
from appliance.control import Route
from appliance.errors import InvalidArgument
from appliance.pb.appliance.v1 import generation_pb2 as pb

_REASONS = {"stop": pb.Finished.STOP, "length": pb.Finished.LENGTH, "tool_calls": pb.Finished.TOOL_CALLS}
_ToolChoice = Literal["", "auto", "none", "required", "named"]
_CHOICES: dict[int, _ToolChoice] = {
    pb.ToolChoice.AUTO: "auto",
    pb.ToolChoice.NONE: "none",
    pb.ToolChoice.REQUIRED: "required",
    pb.ToolChoice.NAMED: "named",
}

# --- requests --------------------------------------------------------------------------------------------------------


def chat_call(request: pb.ChatRequest, deadline_ns: int, client: str) -> GenerateCall:
    """Raises InvalidArgument."""
    call = _generate_call(request.options, deadline_ns, client)
    call.messages = tuple(_message(message) for message in request.messages)
    call.tools = tuple(Tool(tool.name, tool.description, tool.parameters_json) for tool in request.tools)
    mode = _CHOICES.get(request.tool_choice.mode)
    if mode is None:
        raise InvalidArgument(f"tool_choice has the unknown mode {request.tool_choice.mode}", reason="TOOL_CHOICE")
    call.tool_choice = mode if call.tools or mode != "auto" else ""
    call.tool_name = request.tool_choice.name
    call.parallel_tool_calls = not request.single_tool_call
    return call


def prompt_call(request: pb.GenerateRequest, deadline_ns: int, client: str) -> GenerateCall:
    """Raises InvalidArgument."""
    call = _generate_call(request.options, deadline_ns, client)
    call.prompt = request.prompt
    return call


def _generate_call(options: pb.Options, deadline_ns: int, client: str) -> GenerateCall:
    return GenerateCall(
        deadline_ns,
        options.priority,
        sampling=Sampling(**{field.name: value for field, value in options.sampling.ListFields()}),
        max_tokens=options.max_tokens,
        stop=tuple(options.stop),
        logprobs=options.logprobs,
        client=client,
        n=options.n or 1,
        constraint=_constraint(options.constraint) if options.HasField("constraint") else None,
        min_tokens=options.min_tokens,
        ignore_eos=options.ignore_eos,
        stop_token_ids=tuple(options.stop_token_ids),
        logit_bias=tuple(sorted(options.logit_bias.items())),
        adapter=options.adapter,
    )


def _constraint(constraint: pb.Constraint) -> Constraint:
    form = constraint.WhichOneof("form")
    if form == "choices":
        return Constraint("choice", choices=tuple(constraint.choices.texts))
    if form == "json_object" and constraint.json_object:
        return Constraint("json")
    if form == "json_schema":
        return Constraint("json_schema", constraint.json_schema)
    if form == "regex":
        return Constraint("regex", constraint.regex)
    if form == "lark":
        return Constraint("lark", constraint.lark)
    if form == "gbnf":
        return Constraint("gbnf", constraint.gbnf)
    # A form of a later version, too: an answer is never left unconstrained.
    raise InvalidArgument(
        "the constraint has no form that this server knows: give json_schema, json_object true, regex, lark, gbnf or "
        "choices, or leave the constraint out",
        reason="CONSTRAINT_EMPTY",
    )


def _message(message: pb.ChatMessage) -> ChatMessage:
    calls = tuple(ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls)
    return ChatMessage(message.role, message.content, calls, message.tool_call_id, message.name, message.reasoning)


# --- responses -------------------------------------------------------------------------------------------------------


def piece_response(piece: TextPiece) -> pb.GenerateResponse:
    """More of one answer."""
    return pb.GenerateResponse(
        text=piece.text,
        logprobs=[_choice(choice) for choice in piece.logprobs],
        index=piece.index,
        reasoning=piece.reasoning,
        tool_calls=[
            pb.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments) for call in piece.tool_calls
        ],
    )


def done_response(done: GenerateDone) -> pb.GenerateResponse:
    """The end of one answer."""
    finished = pb.Finished(
        reason=_REASONS.get(done.reason, pb.Finished.REASON_UNSPECIFIED),
        usage=pb.Usage(prompt_tokens=done.prompt_tokens, completion_tokens=done.completion_tokens),
        stop_string=done.stop_string,
        seed=done.seed,
        queue_ms=done.queue_ns / 1e6,
        prefill_ms=done.prefill_ns / 1e6,
        decode_ms=done.decode_ns / 1e6,
        reused_tokens=done.reused_tokens,
        drafted_tokens=done.drafted_tokens,
        accepted_tokens=done.accepted_tokens,
    )
    return pb.GenerateResponse(finished=finished, index=done.index)


def _choice(choice: TokenChoice) -> pb.TokenChoice:
    return pb.TokenChoice(chosen=_logprob(choice.chosen), top=[_logprob(token) for token in choice.top])


def _logprob(token: TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(token=token.token, piece=token.piece, logprob=token.logprob)


def embed_response(route: Route, done: EmbedDone, body: memoryview) -> pb.EmbedResponse:
    """Raises ValueError when the vectors and their number don't go together, which is a bug of the engine."""
    values = array("f")
    values.frombytes(body)
    if len(values) != done.count * done.dimensions:
        raise ValueError(f"the engine says {done.count} x {done.dimensions} floats, the frame carries {len(values)}")
    response = pb.EmbedResponse(
        usage=pb.Usage(prompt_tokens=done.prompt_tokens), model=route.name, version=route.version
    )
    for row in range(done.count):
        response.embeddings.add(values=values[row * done.dimensions : (row + 1) * done.dimensions])
    return response
