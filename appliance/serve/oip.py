"""The servicer of inference.GRPCInferenceService: the Open Inference Protocol with the calls Triton's clients add."""

# ruff: noqa: ARG002, N802  # names and arguments are gRPC's

from collections.abc import Iterator
from typing import Any, NoReturn

import grpc

import appliance
from appliance.answers import StatsDone
from appliance.calls import StatsCall
from appliance.control import Route
from appliance.errors import ApplianceError, InvalidArgument, NotFound, Unimplemented
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.questions import AskActivate, AskDeactivate
from appliance.serve import deadlines, model_info
from appliance.serve.asking import WORK_SECONDS_MAX, Asks
from appliance.serve.caller import Caller
from appliance.serve.comparing import Comparing
from appliance.serve.gate import Gate
from appliance.serve.health import Readiness
from appliance.serve.infer import Inference, Received, StreamResponse
from appliance.serve.shared_memory import SharedMemory
from appliance.serve.validate import quote
from appliance.types import EngineStats
from appliance.worker.channel import last
from appliance.worker.engine_stats import together
from appliance.worker.router import Router, sockets_of

_EXTENSIONS = ("classification", "model_configuration", "model_repository", "parameters", "sequence", "statistics")
Context = grpc.ServicerContext


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """Raises ApplianceError; handlers.py makes statuses of them."""

    def __init__(
        self,
        router: Router,
        readiness: Readiness,
        gate: Gate,
        supervisor: Asks,
        shared: SharedMemory,
        comparing: Comparing,
    ) -> None:
        self._router = router
        self._readiness = readiness
        self._supervisor = supervisor
        self._shared = shared
        self.inference = Inference(router, gate, shared, comparing)

    # --- health and metadata -----------------------------------------------------------------------------------------

    def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._readiness.ready)

    def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        route = self._router.find(request.name, request.version)
        return pb.ModelReadyResponse(ready=model_info.is_ready(route))

    def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        extensions = (*_EXTENSIONS, "system_shared_memory") if self._shared.enabled else _EXTENSIONS
        return pb.ServerMetadataResponse(
            name="inference-appliance", version=appliance.__version__, extensions=extensions
        )

    def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        route = self._router.find(request.name, request.version)
        versions = [r.version for r in self._router.versions_of(route.name) if model_info.is_ready(r)]
        return model_info.metadata(route, versions)

    # --- inference ---------------------------------------------------------------------------------------------------

    # A large request and every response travel in the forms of convert.py, which handlers.py knows.

    def ModelInfer(self, request: Received, context: Context) -> bytes:  # type: ignore[override]
        return self.inference.infer(request, context)

    def ModelStreamInfer(self, request_iterator: Iterator[Received], context: Context) -> Iterator[StreamResponse]:  # type: ignore[override]
        return self.inference.stream(request_iterator, context)

    # --- configuration and statistics --------------------------------------------------------------------------------

    def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        return pb.ModelConfigResponse(config=model_info.config(self._router.find(request.name, request.version)))

    def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        routes = self._named(request.name, request.version)
        caller = Caller(context)
        deadline = deadlines.of_call(context)
        return pb.ModelStatisticsResponse(
            model_stats=[model_info.statistics(route, self._stats(caller, route, deadline)) for route in routes]
        )

    def _named(self, name: str, version: str) -> list[Route]:
        known = self._router.versions_of(name) if name else self._router.routes()
        routes = [route for route in known if version in ("", route.version)]
        if name and not routes:
            self._router.find(name, version)  # says what there is
            raise NotFound(f"Request for unknown model: '{name}' is not found", reason="MODEL_UNKNOWN")
        return routes

    def _stats(self, caller: Caller, route: Route, deadline_ns: int) -> EngineStats:
        """What the engines of all instances counted; nothing for one that isn't there to be asked."""
        if not model_info.is_ready(route):
            return EngineStats()
        return together([self._asked(caller, route, socket, deadline_ns) for socket in sockets_of(route)])

    def _asked(self, caller: Caller, route: Route, socket: str, deadline_ns: int) -> EngineStats:
        try:
            # The loop answers it between two steps: a model with a full queue can still be asked.
            with caller.work(self._router, route.name, route.version, bounded=False, instance=socket) as work:
                answer, _ = work.exchange(StatsCall(deadline_ns))
        except ApplianceError:
            if not caller.context.is_active():
                raise
            return EngineStats()
        return answer.stats if isinstance(answer, StatsDone) else EngineStats()

    # --- repository --------------------------------------------------------------------------------------------------

    def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        _check_repository(request.repository_name)
        routes = self._router.routes()
        return pb.RepositoryIndexResponse(
            models=[model_info.index_entry(r) for r in routes if not request.ready or model_info.is_ready(r)]
        )

    def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        _check_repository(request.repository_name)
        version = _version(request.parameters, allowed=("version",))
        last(self._supervisor.ask(AskActivate(request.model_name, version), WORK_SECONDS_MAX))
        return pb.RepositoryModelLoadResponse()

    def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        _check_repository(request.repository_name)
        version = _version(request.parameters, allowed=("version", "unload_dependents"))
        last(self._supervisor.ask(AskDeactivate(request.model_name, version), WORK_SECONDS_MAX))
        return pb.RepositoryModelUnloadResponse()

    # --- shared memory -----------------------------------------------------------------------------------------------

    def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        response = pb.SystemSharedMemoryStatusResponse()
        for entry in self._shared.entries(request.name):
            region = response.regions[entry.name]
            region.name, region.key, region.offset, region.byte_size = entry.name, entry.key, entry.offset, entry.nbytes
        return response

    def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        self._shared.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._shared.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    # --- not built ---------------------------------------------------------------------------------------------------

    def CudaSharedMemoryStatus(self, request: Any, context: Context) -> NoReturn:
        raise _no_cuda_shared_memory()

    def CudaSharedMemoryRegister(self, request: Any, context: Context) -> NoReturn:
        raise _no_cuda_shared_memory()

    def CudaSharedMemoryUnregister(self, request: Any, context: Context) -> NoReturn:
        raise _no_cuda_shared_memory()

    def TraceSetting(self, request: Any, context: Context) -> NoReturn:
        raise Unimplemented("this server has no trace settings to read or change over gRPC")

    def LogSettings(self, request: Any, context: Context) -> NoReturn:
        raise Unimplemented("log settings are in the daemon's configuration file (section log), not changed over gRPC")


def _no_cuda_shared_memory() -> Unimplemented:
    return Unimplemented(
        "this server does not take tensors through CUDA shared memory: send them in the request", reason="SHARED_MEMORY"
    )


def _check_repository(name: str) -> None:
    if name:
        raise NotFound(f"there is no repository {quote(name)}: the one there is has no name", reason="REPOSITORY")


def _version(parameters: Any, allowed: tuple[str, ...]) -> str:
    """The ``version`` among a load's or unload's parameters; raises InvalidArgument for others and other types."""
    for key in parameters:
        if key not in allowed:
            raise InvalidArgument(
                f"parameter {quote(key)} is not supported here; {' and '.join(allowed)} may be given",
                reason="PARAMETER",
            )
    if "version" not in parameters:
        return ""
    message = parameters["version"]
    if message.WhichOneof("parameter_choice") != "string_param":
        raise InvalidArgument("parameter 'version' must be a string", reason="PARAMETER")
    return str(message.string_param)
