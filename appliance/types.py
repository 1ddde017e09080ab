"""The nouns of inference, as the processes of one daemon know them: tensors, signatures, models and their states."""

from enum import Enum

import msgspec

Buffer = bytes | bytearray | memoryview
ParameterValue = bool | int | float | str

# Open Inference Protocol v2 datatypes and the bytes of one element. BYTES has no fixed size: each element is a
# little-endian u32 length and that many bytes.
DATATYPE_BYTES: dict[str, int] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
}
BYTES = "BYTES"


class TensorSpec(msgspec.Struct, frozen=True, array_like=True):
    """What a model takes or gives: -1 in ``shape`` is an axis of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    labels: tuple[str, ...] = ()
    unit: str = ""
    threshold: float | None = None
    description: str = ""
    # The file in the model's folder that has the labels, a line each.
    labels_file: str = ""


class Tensor(msgspec.Struct):
    """A tensor's bytes in row-major little-endian order, BYTES elements each with their u32 length before them."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer


class ModelKind(str, Enum):
    """What a model answers to."""

    TENSOR = "tensor"
    LANGUAGE = "language"


class ModelSignature(msgspec.Struct, frozen=True, array_like=True):
    """What a loaded model told of itself.

    ``platform`` as Triton names them ("onnxruntime_onnx") or "llama_cpp". ``batch_axis``: whether axis 0 of every input
    and output is one and the same dynamic axis. ``context_tokens_max`` is 0 for a model without a context.
    """

    kind: ModelKind
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_axis: bool = False
    decoupled: bool = False
    context_tokens_max: int = 0
    embeds: bool = False
    chats: bool = False
    reranks: bool = False
    adapters: tuple[str, ...] = ()
    # Takes sequence_id; the inputs that carry state are then the engine's.
    sequences: bool = False
    # Most rows that are computed together, 0: calls run one by one; and the execution provider in use.
    batch_rows_max: int = 0
    provider: str = ""


class ModelState(str, Enum):
    """Where a version of a model is, as operators and RepositoryIndex see it."""

    STORED = "stored"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class EngineStats(msgspec.Struct, array_like=True):
    """What one engine process has done since it started. Durations in nanoseconds, as ModelStatistics wants them."""

    success_count: int = 0
    success_ns: int = 0
    fail_count: int = 0
    fail_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    inference_count: int = 0
    execution_count: int = 0
    cancel_count: int = 0
    last_inference_ms: int = 0
    waiting: int = 0
    running: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    # Language models. ``kv_tokens`` is the room of the KV cache, ``kv_used`` what is taken, of which ``kv_kept`` only
    # waits for a prompt that begins the same. A hit is a call that found at least one token of its prompt computed.
    kv_tokens: int = 0
    kv_used: int = 0
    kv_kept: int = 0
    prefix_hits: int = 0
    prefix_misses: int = 0
    prefix_tokens_saved: int = 0
    # Generated tokens a second over the last 5 seconds, and the median of the last 128 steps.
    tokens_per_second: float = 0.0
    step_ns: int = 0
    # Calls that gave their room back and started again later, because the cache was full.
    preempted_count: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    # Calls that the engine did not take: bad input that it had to find, a full queue, a deadline out of reach.
    refused_count: int = 0
    # Of compute_ns: making arrays of what came, and tensors of what the model gave.
    compute_input_ns: int = 0
    compute_output_ns: int = 0
    # Live sequences, those forgotten because nobody came for them, and runs by number of rows.
    sequences: int = 0
    sequences_expired: int = 0
    batch_sizes: dict[int, int] = {}
    # The time of those runs alone, by number of rows.
    batch_ns: dict[int, int] = {}
    # What the states of live sequences hold.
    sequence_bytes: int = 0
    # For probation (worker/call_tally.py): calls that failed by the model's own fault, and calls that were answered, or
    # whose deadline passed, by their time from arrival to end (worker/latency.py's buckets). Streams by time a piece.
    fault_count: int = 0
    latency: dict[int, int] = {}
