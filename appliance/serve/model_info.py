"""What models say of themselves, in the protocol's words: metadata, configuration, statistics, the repository's index."""

import json
from collections.abc import Sequence

from appliance import limits
from appliance.control import Route
from appliance.errors import Unavailable
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import model_config_pb2 as config_pb
from appliance.types import EngineStats, ModelSignature, ModelState, TensorSpec

_DATA_TYPES = {
    "BOOL": config_pb.TYPE_BOOL,
    "UINT8": config_pb.TYPE_UINT8,
    "UINT16": config_pb.TYPE_UINT16,
    "UINT32": config_pb.TYPE_UINT32,
    "UINT64": config_pb.TYPE_UINT64,
    "INT8": config_pb.TYPE_INT8,
    "INT16": config_pb.TYPE_INT16,
    "INT32": config_pb.TYPE_INT32,
    "INT64": config_pb.TYPE_INT64,
    "FP16": config_pb.TYPE_FP16,
    "FP32": config_pb.TYPE_FP32,
    "FP64": config_pb.TYPE_FP64,
    "BF16": config_pb.TYPE_BF16,
    "BYTES": config_pb.TYPE_STRING,
}
_BACKENDS = {"onnxruntime_onnx": "onnxruntime"}
# The words of Triton's repository index.
_INDEX_STATES = {
    ModelState.STORED: "UNAVAILABLE",
    ModelState.LOADING: "LOADING",
    ModelState.READY: "READY",
    ModelState.RESTARTING: "LOADING",
    ModelState.DRAINING: "UNLOADING",
    ModelState.FAILED: "UNAVAILABLE",
    ModelState.QUARANTINED: "UNAVAILABLE",
}
_REASONS = {ModelState.STORED: "unloaded", ModelState.RESTARTING: "its engine is being started again"}


def is_ready(route: Route) -> bool:
    """Whether the version takes calls at once."""
    return route.state is ModelState.READY and bool(route.socket)


def signature_of(route: Route) -> ModelSignature:
    """Raises Unavailable when the version isn't loaded."""
    if route.signature is None:
        raise Unavailable(
            f"model '{route.name}' version '{route.version}' is not loaded (it is {route.state.value}): "
            "its inputs and outputs are not known",
            reason="MODEL_NOT_READY",
        )
    return route.signature


def metadata(route: Route, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """ModelMetadata of ``route``; ``versions`` are all that take requests."""
    signature = signature_of(route)
    return pb.ModelMetadataResponse(
        name=route.name,
        versions=versions,
        platform=signature.platform,
        inputs=[_tensor_metadata(spec) for spec in signature.inputs],
        outputs=[_tensor_metadata(spec) for spec in signature.outputs],
    )


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def config(route: Route) -> config_pb.ModelConfig:
    """ModelConfig of ``route``. Shapes are whole: max_batch_size stays 0, there is no batch axis apart."""
    signature = signature_of(route)
    return config_pb.ModelConfig(
        name=route.name,
        platform=signature.platform,
        backend=_BACKENDS.get(signature.platform, signature.platform),
        max_batch_size=0,
        input=[
            config_pb.ModelInput(
                name=spec.name, data_type=_DATA_TYPES[spec.datatype], dims=spec.shape, optional=spec.optional
            )
            for spec in signature.inputs
        ],
        output=[
            config_pb.ModelOutput(
                name=spec.name,
                data_type=_DATA_TYPES[spec.datatype],
                dims=spec.shape,
                label_filename=spec.labels_file,
            )
            for spec in signature.outputs
        ],
        instance_group=[
            config_pb.ModelInstanceGroup(
                name=route.name, kind=config_pb.ModelInstanceGroup.KIND_AUTO, count=1 + len(route.more_sockets)
            )
        ],
        model_transaction_policy=config_pb.ModelTransactionPolicy(decoupled=signature.decoupled),
        parameters={key: config_pb.ModelParameter(string_value=value) for key, value in _facts(signature).items()},
    )


def _facts(signature: ModelSignature) -> dict[str, str]:
    """What the protocol has no field for; README.md lists the keys."""
    facts = {"sequences": "true"} if signature.sequences else {}
    for spec in signature.outputs:
        labels = json.dumps(spec.labels, ensure_ascii=False) if spec.labels else ""
        told = {
            "unit": spec.unit,
            "threshold": "" if spec.threshold is None else repr(spec.threshold),
            "description": spec.description,
            "labels": labels if len(labels.encode()) <= limits.shown_labels_bytes_max else "",
        }
        facts |= {f"output.{spec.name}.{key}": value for key, value in told.items() if value}
    return facts


def statistics(route: Route, stats: EngineStats) -> pb.ModelStatistics:
    """ModelStatistics of one version since its engine started; each call counts the times of the run it was in."""
    ran = stats.success_count
    infer_ns = max(0, stats.compute_ns - stats.compute_input_ns - stats.compute_output_ns)
    return pb.ModelStatistics(
        name=route.name,
        version=route.version,
        last_inference=stats.last_inference_ms,
        inference_count=stats.inference_count,
        execution_count=stats.execution_count,
        inference_stats=pb.InferStatistics(
            success=pb.StatisticDuration(count=ran, ns=stats.success_ns),
            fail=pb.StatisticDuration(count=stats.fail_count, ns=stats.fail_ns),
            queue=pb.StatisticDuration(count=ran, ns=stats.queue_ns),
            compute_input=pb.StatisticDuration(count=ran, ns=stats.compute_input_ns),
            compute_infer=pb.StatisticDuration(count=ran, ns=infer_ns),
            compute_output=pb.StatisticDuration(count=ran, ns=stats.compute_output_ns),
            cache_hit=pb.StatisticDuration(),
            cache_miss=pb.StatisticDuration(),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size, compute_infer=pb.StatisticDuration(count=count, ns=stats.batch_ns.get(size, 0))
            )
            for size, count in sorted(stats.batch_sizes.items())
        ],
    )


def index_entry(route: Route) -> pb.RepositoryIndexResponse.ModelIndex:
    """One line of RepositoryIndex."""
    reason = route.reason or _REASONS.get(route.state, "")
    if route.state in (ModelState.FAILED, ModelState.QUARANTINED):
        reason = f"{route.state.value}: {route.reason}" if route.reason else route.state.value
    return pb.RepositoryIndexResponse.ModelIndex(
        name=route.name, version=route.version, state=_INDEX_STATES[route.state], reason=reason
    )
