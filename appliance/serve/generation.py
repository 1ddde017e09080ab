"""The servicer of appliance.v1.Generation: chat, completion, embeddings, reranking and tokens of language models.

Structure is checked before an engine is asked (generation_checks.py); what depends on the model by its engine.
"""

# ruff: noqa: N802  # names are gRPC's

from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc

from appliance import limits
from appliance.answers import AnyAnswer, ChoiceDone, EmbedDone, GenerateDone, RerankDone, TextPiece, TokenizeDone
from appliance.calls import AnyCall, EmbedCall, GenerateCall, RerankCall, TokenizeCall
from appliance.control import Route
from appliance.errors import ApplianceError, Unimplemented
from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc as pb_grpc
from appliance.serve import client_name, deadlines, generation_convert
from appliance.serve.caller import Caller, Work
from appliance.serve.comparing import Comparing
from appliance.serve.generation_checks import check, check_bytes, check_texts
from appliance.types import ModelKind
from appliance.worker.router import Router

Context = grpc.ServicerContext
_Call = TypeVar("_Call", bound=AnyCall)


class GenerationServicer(pb_grpc.GenerationServicer):
    """Raises ApplianceError; handlers.py makes statuses of them."""

    def __init__(self, router: Router, comparing: Comparing) -> None:
        self._router = router
        self._comparing = comparing

    def Chat(self, request: pb.ChatRequest, context: Context) -> Iterator[pb.GenerateResponse]:
        def call(deadline_ns: int, client: str) -> GenerateCall:
            return check(generation_convert.chat_call(request, deadline_ns, client))

        yield from self._generated(request, context, call)

    def Generate(self, request: pb.GenerateRequest, context: Context) -> Iterator[pb.GenerateResponse]:
        def call(deadline_ns: int, client: str) -> GenerateCall:
            return check(generation_convert.prompt_call(request, deadline_ns, client))

        yield from self._generated(request, context, call)

    def _generated(
        self,
        request: pb.ChatRequest | pb.GenerateRequest,
        context: Context,
        call: Callable[[int, str], GenerateCall],
    ) -> Iterator[pb.GenerateResponse]:
        caller = Caller(context)
        trial = self._comparing.trials.of(request.model, request.version)

        def of(version: str) -> Iterator[pb.GenerateResponse]:
            with caller.work(self._router, request.model, version) as work:
                made = self._made(work, call)
                yield from _responses(work.route, self._comparing.stream(trial, work, made))

        yield from of(request.version) if trial is None else trial.streamed(of)

    def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        def call(deadline_ns: int, client: str) -> EmbedCall:
            texts = tuple(request.texts)
            check_texts("texts", texts, limits.embed_texts_max)
            return EmbedCall(deadline_ns, 0, texts, not request.raw, client)

        caller = Caller(context)
        trial = self._comparing.trials.of(request.model, request.version)

        def of(version: str) -> pb.EmbedResponse:
            with caller.work(self._router, request.model, version) as work:
                answer, body = self._comparing.exchange(trial, work, self._made(work, call))
                assert isinstance(answer, EmbedDone)  # the one answer to an EmbedCall that is no Failure
                return generation_convert.embed_response(work.route, answer, body)

        return of(request.version) if trial is None else trial.answered(of)

    def Rerank(self, request: pb.RerankRequest, context: Context) -> pb.RerankResponse:
        def call(deadline_ns: int, client: str) -> RerankCall:
            documents = tuple(request.documents)
            check_texts("documents", documents, limits.rerank_documents_max, request.query)
            return RerankCall(deadline_ns, 0, request.query, documents, client)

        caller = Caller(context)
        trial = self._comparing.trials.of(request.model, request.version)

        def of(version: str) -> pb.RerankResponse:
            with caller.work(self._router, request.model, version) as work:
                answer, _ = self._comparing.exchange(trial, work, self._made(work, call))
                assert isinstance(answer, RerankDone)  # the one answer to a RerankCall that is no Failure
                return pb.RerankResponse(
                    scores=answer.scores,
                    usage=pb.Usage(prompt_tokens=answer.prompt_tokens),
                    model=work.route.name,
                    version=work.route.version,
                )

        return of(request.version) if trial is None else trial.answered(of)

    def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        def call(deadline_ns: int, _: str) -> TokenizeCall:
            check_bytes("the text has", request.text)
            return TokenizeCall(deadline_ns, 0, request.text, not request.bare, request.special)

        with Caller(context).work(self._router, request.model, request.version) as work:
            answer, _ = work.exchange(self._made(work, call))
            assert isinstance(answer, TokenizeDone)  # the one answer to a TokenizeCall that is no Failure
            return pb.TokenizeResponse(tokens=answer.tokens, model=work.route.name, version=work.route.version)

    def _made(self, work: Work, call: Callable[[int, str], _Call]) -> _Call:
        """What ``call`` makes of a deadline and a client's name; what it refuses is counted."""
        try:
            _check_language(work.route)
            return call(deadlines.of_call(work.context), client_name.of_call(work.context))
        except ApplianceError:
            self._router.count_refused(work.route)
            raise


def _check_language(route: Route) -> None:
    if route.signature is not None and route.signature.kind is not ModelKind.LANGUAGE:
        raise Unimplemented(
            f"model '{route.name}' is not a language model: ask it through inference.GRPCInferenceService, or "
            "`appliance infer`",
            reason="NOT_LANGUAGE",
        )


def _responses(route: Route, answers: Iterator[tuple[AnyAnswer, memoryview]]) -> Iterator[pb.GenerateResponse]:
    first = True
    for answer, _ in answers:
        if isinstance(answer, TextPiece):
            response = generation_convert.piece_response(answer)
        else:
            done = answer.done if isinstance(answer, ChoiceDone) else answer
            assert isinstance(done, GenerateDone)  # what ends a generation that did not fail
            response = generation_convert.done_response(done)
        if first or answer.final:
            response.model, response.version = route.name, route.version
        first = False
        yield response
