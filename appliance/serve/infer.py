"""ModelInfer and ModelStreamInfer: from a request of the protocol to an engine and back."""

from collections.abc import Iterator

import grpc

from appliance.answers import AnyAnswer, GenerateDone, InferDone, TextPiece
from appliance.errors import ApplianceError, Cancelled, Unimplemented
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.serve import client_name, convert, deadlines, failed, status, text_convention
from appliance.serve.caller import Caller, Work
from appliance.serve.comparing import Comparing
from appliance.serve.gate import Gate
from appliance.serve.parameters import FINAL, Options
from appliance.serve.plans import Plans
from appliance.serve.shared_memory import SharedMemory
from appliance.serve.trials import Trial
from appliance.types import ModelKind
from appliance.worker.router import Router

Received = pb.ModelInferRequest | convert.LargeRequest
Raw = list[memoryview] | None
# Tensors come as bytes on the wire already; see convert.infer_response.
StreamResponse = pb.ModelStreamInferResponse | bytes


class Inference:
    """Answers requests through the engines that the router knows."""

    def __init__(self, router: Router, gate: Gate, shared: SharedMemory, comparing: Comparing) -> None:
        self._router = router
        self._comparing = comparing
        self._gate = gate
        self._shared = shared
        self._plans = Plans()

    def infer(self, received: Received, context: grpc.ServicerContext) -> bytes:
        """One request, one response, as bytes on the wire."""
        request, raw = convert.opened(received)
        caller = Caller(context)
        options = convert.request_options(request)
        sticky = _sequence(options, context)
        trial = self._comparing.trials.of(request.model_name, request.model_version, sticky)
        if trial is None:
            return self._infer(caller, request, raw, options, request.model_version, sticky, None)
        return trial.answered(lambda v: self._infer(caller, request, raw, options, v, sticky, trial), sticky)

    def _infer(
        self,
        caller: Caller,
        request: pb.ModelInferRequest,
        raw: Raw,
        options: Options,
        version: str,
        sticky: str,
        trial: Trial | None,
    ) -> bytes:
        with caller.work(self._router, request.model_name, version, sticky=sticky) as work:
            signature = work.route.signature
            if signature is not None and signature.decoupled:
                raise Unimplemented(
                    f"ModelInfer doesn't support models with decoupled transaction policy; ask '{work.route.name}' "
                    "through ModelStreamInfer",
                    reason="DECOUPLED",
                )
            return self._tensors(work, request, raw, options, trial)

    def _tensors(
        self,
        work: Work,
        request: pb.ModelInferRequest,
        raw: Raw,
        options: Options,
        trial: Trial | None = None,
        *,
        final: bool | None = None,
    ) -> bytes:
        route, regions = work.route, self._shared.for_call()
        try:
            deadline = deadlines.of_call(work.context, options.timeout_us)
            call, buffers = convert.infer_call(request, self._plans.of(route), options, deadline, raw, regions)
            if "sequence_id" in options.model:
                call.client = client_name.of_call(work.context)
        except ApplianceError:
            self._router.count_refused(route)
            raise
        used = regions.used if regions is not None else ()
        answer, body = self._comparing.exchange(trial, work, call, buffers, used)
        assert isinstance(answer, InferDone)  # the one answer to an InferCall that is no Failure
        return convert.infer_response(route.name, route.version, request.id, answer, body, final=final, regions=regions)

    # --- streams -----------------------------------------------------------------------------------------------------

    def stream(self, requests: Iterator[Received], context: grpc.ServicerContext) -> Iterator[StreamResponse]:
        """Each request in its turn; one that fails costs the stream only an error message."""
        self._gate.enter_stream()
        try:
            caller = Caller(context)
            for received in requests:
                yield from self.answers(received, caller)
        finally:
            self._gate.leave_stream()

    def answers(self, received: Received, caller: Caller) -> Iterator[StreamResponse]:
        """All answers to one request of a stream; what goes wrong with it is the last of them."""
        request, raw = convert.opened(received)
        try:
            yield from self._one(request, raw, caller)
        except Cancelled:
            if not caller.context.is_active():
                raise
            yield stream_error(request, "the request was cancelled because the daemon is stopping")
        except ApplianceError as error:
            failed.note(error, caller.context, failed.asked_of(request))
            yield stream_error(request, status.shorten(error.message))
        except Exception:  # the stream has other requests; this one's client gets what a unary caller gets
            yield stream_error(request, status.internal_message(caller.context, failed.asked_of(request)))

    def _one(self, request: pb.ModelInferRequest, raw: Raw, caller: Caller) -> Iterator[StreamResponse]:
        options = convert.request_options(request)
        sticky = _sequence(options, caller.context)
        trial = self._comparing.trials.of(request.model_name, request.model_version, sticky)
        if trial is None:
            yield from self._one_of(caller, request, raw, options, request.model_version, sticky, None)
        else:
            yield from trial.streamed(lambda v: self._one_of(caller, request, raw, options, v, sticky, trial), sticky)

    def _one_of(
        self,
        caller: Caller,
        request: pb.ModelInferRequest,
        raw: Raw,
        options: Options,
        version: str,
        sticky: str,
        trial: Trial | None,
    ) -> Iterator[StreamResponse]:
        with caller.work(self._router, request.model_name, version, sticky=sticky) as work:
            signature = work.route.signature
            if signature is not None and signature.kind is ModelKind.LANGUAGE:
                yield from self._text(work, request, raw, options, trial)
                return
            response = self._tensors(work, request, raw, options, trial, final=True)
        yield convert.stream_response(response)

    def _text(
        self, work: Work, request: pb.ModelInferRequest, raw: Raw, options: Options, trial: Trial | None
    ) -> Iterator[StreamResponse]:
        try:
            deadline = deadlines.of_call(work.context, options.timeout_us)
            heads, buffers = convert.tensors_in(request, raw)
            wanted = convert.outputs_wanted(request)
            client = client_name.of_call(work.context)
            asked = text_convention.read(heads, buffers, wanted, deadline, options.priority, client)
        except ApplianceError:
            self._router.count_refused(work.route)
            raise
        gathered: list[str] = []
        for answer, _ in self._comparing.stream(trial, work, asked.call):
            if isinstance(answer, TextPiece) and asked.stream:
                if answer.text:
                    yield _text_response(work, request, answer.text, final=False)
            elif isinstance(answer, TextPiece):
                gathered.append(answer.text)
            else:
                yield from _last(work, request, options, answer, None if asked.stream else "".join(gathered))


def _sequence(options: Options, context: grpc.ServicerContext) -> str:
    """Names the sequence of a request: its calls go to one instance. Empty for a call of none."""
    identity = options.model.get("sequence_id")
    return f"{client_name.of_call(context)}\0{identity}" if identity else ""


def _last(
    work: Work, request: pb.ModelInferRequest, options: Options, answer: AnyAnswer, whole: str | None
) -> Iterator[StreamResponse]:
    """The end of a text. Without the empty last response that a client may ask for, the last carries (empty) text."""
    assert isinstance(answer, GenerateDone)  # the one final answer to a GenerateCall that is no Failure
    if whole is not None and options.empty_final:
        yield _text_response(work, request, whole, final=False)
    text = None if options.empty_final else whole or ""
    response = _text_response(work, request, text, final=True)
    parameters = response.infer_response.parameters
    parameters["finish_reason"].string_param = answer.reason
    parameters["prompt_tokens"].int64_param = answer.prompt_tokens
    parameters["completion_tokens"].int64_param = answer.completion_tokens
    yield response


def _text_response(
    work: Work, request: pb.ModelInferRequest, text: str | None, *, final: bool
) -> pb.ModelStreamInferResponse:
    response = pb.ModelInferResponse(model_name=work.route.name, model_version=work.route.version, id=request.id)
    response.parameters[FINAL].bool_param = final
    if text is not None:
        convert.add_output(response, text_convention.TEXT_OUTPUT, "BYTES", (1,), text_convention.text_tensor(text))
    return pb.ModelStreamInferResponse(infer_response=response)


def stream_error(request: pb.ModelInferRequest, message: str) -> pb.ModelStreamInferResponse:
    """The last answer to a request of a stream that failed."""
    response = pb.ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
    response.parameters[FINAL].bool_param = True
    return pb.ModelStreamInferResponse(error_message=message, infer_response=response)
