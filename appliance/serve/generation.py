"""The servicer of appliance.v1.Generation: chat, completion, embeddings and tokens of language models.

Structure is checked here (sizes, counts, roles); ranges of sampling options by the engine, which knows its model.
"""

# ruff: noqa: N802  # names are gRPC's

from array import array
from collections.abc import Iterator

import grpc

from appliance import limits
from appliance.calls import (
    ChatMessage,
    EmbedCall,
    EmbedDone,
    GenerateCall,
    GenerateDone,
    Sampling,
    TextPiece,
    TokenChoice,
    TokenizeCall,
    TokenizeDone,
    TokenLogprob,
)
from appliance.control import Route
from appliance.errors import ApplianceError, InvalidArgument, Unimplemented
from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc as pb_grpc
from appliance.serve import deadlines
from appliance.serve.caller import Caller, Work
from appliance.serve.text_convention import check_stop
from appliance.types import ModelKind
from appliance.worker.router import Router

Context = grpc.ServicerContext
_ROLES = ("system", "user", "assistant", "tool")
_REASONS = {"stop": pb.Finished.STOP, "length": pb.Finished.LENGTH}


class GenerationServicer(pb_grpc.GenerationServicer):
    """Raises ApplianceError; handlers.py makes statuses of them."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def Chat(self, request: pb.ChatRequest, context: Context) -> Iterator[pb.GenerateResponse]:
        with Caller(context).work(self._router, request.model, request.version) as work:
            try:
                _check_language(work.route)
                messages = _messages(request)
                call = _generate_call(request.options, deadlines.of_call(context), None, messages)
            except ApplianceError:
                self._router.count_refused(work.route)
                raise
            yield from _stream(work, call)

    def Generate(self, request: pb.GenerateRequest, context: Context) -> Iterator[pb.GenerateResponse]:
        with Caller(context).work(self._router, request.model, request.version) as work:
            try:
                _check_language(work.route)
                _check_bytes("the prompt", request.prompt)
                call = _generate_call(request.options, deadlines.of_call(context), request.prompt, None)
            except ApplianceError:
                self._router.count_refused(work.route)
                raise
            yield from _stream(work, call)

    def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        with Caller(context).work(self._router, request.model, request.version) as work:
            try:
                _check_language(work.route)
                _check_texts(request)
                call = EmbedCall(deadlines.of_call(context), 0, tuple(request.texts), not request.raw)
            except ApplianceError:
                self._router.count_refused(work.route)
                raise
            answer, body = work.exchange(call)
            assert isinstance(answer, EmbedDone)  # the one answer to an EmbedCall that is no Failure
            return _embed_response(work.route, answer, body)

    def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        with Caller(context).work(self._router, request.model, request.version) as work:
            try:
                _check_language(work.route)
                _check_bytes("the text", request.text)
                call = TokenizeCall(deadlines.of_call(context), 0, request.text, not request.bare, request.special)
            except ApplianceError:
                self._router.count_refused(work.route)
                raise
            answer, _ = work.exchange(call)
            assert isinstance(answer, TokenizeDone)  # the one answer to a TokenizeCall that is no Failure
            return pb.TokenizeResponse(tokens=answer.tokens, model=work.route.name, version=work.route.version)


# --- requests --------------------------------------------------------------------------------------------------------


def _check_language(route: Route) -> None:
    if route.signature is not None and route.signature.kind is not ModelKind.LANGUAGE:
        raise Unimplemented(
            f"model '{route.name}' is not a language model: ask it through inference.GRPCInferenceService, or `appliance infer`",
            reason="NOT_LANGUAGE",
        )


def _check_bytes(what: str, *texts: str) -> None:
    size = sum(len(text.encode()) for text in texts)
    if size > limits.prompt_bytes_max:
        raise InvalidArgument(
            f"{what} has {size} bytes, at most {limits.prompt_bytes_max} are allowed", reason="PROMPT_SIZE"
        )


def _messages(request: pb.ChatRequest) -> tuple[ChatMessage, ...]:
    count = len(request.messages)
    if not 0 < count <= limits.chat_messages_max:
        raise InvalidArgument(
            f"{count} messages came, from 1 to {limits.chat_messages_max} are allowed", reason="MESSAGES"
        )
    for index, message in enumerate(request.messages):
        if message.role not in _ROLES:
            raise InvalidArgument(
                f"message {index} has role '{message.role[:32]}', expected one of {', '.join(_ROLES)}", reason="ROLE"
            )
    _check_bytes("the conversation", *(message.content for message in request.messages))
    return tuple(ChatMessage(message.role, message.content) for message in request.messages)


def _check_texts(request: pb.EmbedRequest) -> None:
    count = len(request.texts)
    if not 0 < count <= limits.embed_texts_max:
        raise InvalidArgument(f"{count} texts came, from 1 to {limits.embed_texts_max} are allowed", reason="TEXTS")
    _check_bytes("the texts", *request.texts)


def _generate_call(
    options: pb.Options, deadline_ns: int, prompt: str | None, messages: tuple[ChatMessage, ...] | None
) -> GenerateCall:
    if options.max_tokens < 0:
        raise InvalidArgument(f"max_tokens is {options.max_tokens}, it must be 0 (no bound) or more")
    if not 0 <= options.logprobs <= limits.logprobs_top_max:
        raise InvalidArgument(f"logprobs is {options.logprobs}, from 0 to {limits.logprobs_top_max} is allowed")
    sampling = Sampling(**{field.name: value for field, value in options.sampling.ListFields()})
    stop = check_stop(tuple(options.stop))
    return GenerateCall(deadline_ns, 0, prompt, messages, sampling, options.max_tokens, stop, options.logprobs)


# --- responses -------------------------------------------------------------------------------------------------------


def _stream(work: Work, call: GenerateCall) -> Iterator[pb.GenerateResponse]:
    first = True
    for answer, _ in work.stream(call):
        if isinstance(answer, TextPiece):
            response = pb.GenerateResponse(text=answer.text, logprobs=[_choice(c) for c in answer.logprobs])
        else:
            assert isinstance(answer, GenerateDone)  # the one final answer to a GenerateCall that is no Failure
            response = pb.GenerateResponse(finished=_finished(answer))
        if first or answer.final:
            response.model, response.version = work.route.name, work.route.version
        first = False
        yield response


def _finished(done: GenerateDone) -> pb.Finished:
    return pb.Finished(
        reason=_REASONS.get(done.reason, pb.Finished.REASON_UNSPECIFIED),
        usage=pb.Usage(prompt_tokens=done.prompt_tokens, completion_tokens=done.completion_tokens),
        stop_string=done.stop_string,
        seed=done.seed,
        queue_ms=done.queue_ns / 1e6,
        prefill_ms=done.prefill_ns / 1e6,
        decode_ms=done.decode_ns / 1e6,
    )


def _choice(choice: TokenChoice) -> pb.TokenChoice:
    return pb.TokenChoice(chosen=_logprob(choice.chosen), top=[_logprob(token) for token in choice.top])


def _logprob(token: TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(token=token.token, piece=token.piece, logprob=token.logprob)


def _embed_response(route: Route, done: EmbedDone, body: memoryview) -> pb.EmbedResponse:
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
