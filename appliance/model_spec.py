"""model.toml: what a model folder says of itself. Parsed once, strictly, into frozen structs.

The parser lives in store/model_folder.py, with errors that name the place; engines only ever see the result.
"""

from typing import Literal

import msgspec

EngineName = Literal["onnx", "llama", "fake"]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of everything in model.toml: unknown keys are errors."""


class ModelFile(Struct, frozen=True):
    """A file of the model, relative to its folder. The engine opens the one with role "model" and finds the rest by name.

    Roles: "model" (exactly one), "preprocess" and "postprocess" (ONNX files that run before and after it, in the order
    in which they are listed), "data" (external tensor data of an ONNX file), "labels", "golden" (arrays of golden
    tests), "state" (the first state of a sequence, .npy), "statistics" (of the training data, JSON), "adapter" (LoRA,
    GGUF), "draft" (a smaller language model with the same vocabulary), "doc".
    """

    path: str
    role: Literal[
        "model",
        "preprocess",
        "postprocess",
        "data",
        "labels",
        "golden",
        "state",
        "statistics",
        "adapter",
        "draft",
        "doc",
    ] = "model"


ProviderName = Literal["tensorrt", "cuda", "openvino", "cpu"]


class OutputFacts(Struct, frozen=True):
    """What a person must know to read an output: its ``unit``, and from which value on it means yes (``threshold``)."""

    unit: str = ""
    threshold: float | None = None
    description: str = ""


class SequenceState(Struct, frozen=True):
    """A tensor that a sequence carries from one call to the next: ``output`` of a call is ``input`` of the next one.

    The first call gets zeros, or the array of the file ``initial`` (role "state", .npy); dynamic axes that are not the
    batch's need such a file. ``batch_axis`` is the axis of the rows, as in OnnxOptions.batch_axes.
    """

    input: str
    output: str
    initial: str = ""
    batch_axis: int = 0


class SequenceOptions(Struct, frozen=True):
    """Stateful models: state tensors stay in the engine, found again by the request's ``sequence_id``.

    A sequence that no call has come for in ``idle_seconds_max`` is forgotten. At most ``sequences_max`` live at once;
    the start of one more is refused.
    """

    states: tuple[SequenceState, ...] = ()
    idle_seconds_max: float = 60.0
    sequences_max: int = 1024


class OnnxOptions(Struct, frozen=True):
    """Engine options of an ONNX model.

    ``threads`` 0 lets the daemon decide. ``labels`` names, for an output, the file of role "labels" with one label a
    line. ``warmup_rows`` is used for each dynamic axis when the model is warmed up; 0 switches warm-up off.

    ``batching`` "auto" computes the rows of several calls together where the model's axes allow it and a trial at load
    shows that a row's answer doesn't depend on the rows beside it; "on" trusts the model's owner, "off" never does.
    ``batch_rows_max`` 0: limits.batch_rows_default_max. ``batch_wait_us_max`` waits so long for more rows, from the
    oldest call on; 0 takes what is there. ``batch_rows_preferred``: sizes to stop the wait at, and to cut batches to.
    ``batch_axes`` gives the axis of the rows for tensors where it isn't 0; tensors without a batch axis (-1) must be
    the same in all calls of a batch.

    ``feeds``: input of a later file of a chain -> output of an earlier one, where their names differ.
    ``providers``: the execution providers in order of preference; () leaves the daemon's. ``outputs``: facts by output.
    """

    threads: int = 0
    optimization: Literal["all", "extended", "basic", "off"] = "all"
    labels: dict[str, str] = {}
    warmup_rows: int = 1
    batching: Literal["auto", "on", "off"] = "auto"
    batch_rows_max: int = 0
    batch_wait_us_max: int = 0
    batch_rows_preferred: tuple[int, ...] = ()
    batch_axes: dict[str, int] = {}
    feeds: dict[str, str] = {}
    providers: tuple[ProviderName, ...] = ()
    outputs: dict[str, OutputFacts] = {}
    sequence: SequenceOptions = SequenceOptions()


class SamplingDefaults(Struct, frozen=True):
    """The model owner's defaults for calls/Sampling; None leaves the daemon's."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None


class PinnedPrefix(Struct, frozen=True):
    """The beginning of many prompts, computed at load and kept: a system message, or the beginning of a bare prompt."""

    system: str = ""
    prompt: str = ""


class LlamaOptions(Struct, frozen=True):
    """Engine options of a GGUF model.

    ``context_tokens`` is the most that one conversation may have; 0: what the model was trained with, at most 8192
    unless named. ``kv_cache_tokens`` is the room that all running conversations and kept prefixes share, at least one
    context; pinned prefixes get room beside it. ``batch_tokens`` is the most that one decode step takes; prompts go in
    steps of at most 128. ``threads`` 0: the daemon's number. ``gpu_layers`` -1 puts as many layers on a GPU
    as there are. ``pooling`` "model": as the file says. ``chat_template``: a file of role "doc" in the folder that
    replaces the model's own template. ``pinned``: at most 16 prefixes that are computed at load and never
    evicted (not with ``deterministic``, nor for recurrent models, nor for calls with an adapter). ``adapters``: name to file of role
    "adapter". ``speculation`` "lookup" guesses from the text so far, "draft" with the file of role "draft", "off" never;
    "auto" is "draft" where there is such a file, else "lookup". ``deterministic``: the same call and seed give the same
    answer, bit for bit, at the price of one call at a time and no shared prefixes.
    """

    threads: int = 0
    context_tokens: int = 0
    batch_tokens: int = 512
    gpu_layers: int = -1
    pooling: Literal["model", "mean", "cls", "last", "none"] = "model"
    chat_template: str = ""
    sampling: SamplingDefaults = SamplingDefaults()
    kv_cache_tokens: int = 0
    pinned: tuple[PinnedPrefix, ...] = ()
    adapters: dict[str, str] = {}
    speculation: Literal["auto", "lookup", "draft", "off"] = "auto"
    deterministic: bool = False


ServiceClass = Literal["latency", "throughput"]


class Serving(Struct, frozen=True, rename={"service_class": "class"}):
    """How the daemon runs a model. ``class`` "" is "latency" for ONNX models, "throughput" for language models.

    Latency models get the processor before throughput models when both want it. ``instances`` engine processes share the
    calls of the model.
    """

    service_class: Literal["", "latency", "throughput"] = ""
    instances: int = 1


class ModelLimits(Struct, frozen=True):
    """What the model may use of the machine and a client of the model. 0 leaves the daemon's own limit.

    ``max_queue``: calls that may wait in the engine (of a language model; of others: that may be in hand).
    ``max_tokens``: tokens of one answer; a call that names more is refused, one that names none gets so many.
    ``max_context``: tokens of one prompt and its answer together, where that is to be less than llama.context_tokens.
    ``memory_mib``: what an engine process of the model may have, files that it maps apart. A call that wants more fails;
    a process that gets past that is ended.
    """

    max_queue: int = 0
    memory_mib: int = 0
    max_tokens: int = 0
    max_context: int = 0


class GoldenTensor(Struct, frozen=True):
    """A tensor of a golden test: its elements in row-major order in ``data``, or in the .npy file ``file``.

    ``shape`` may be left out for a file, or where the data is a plain list for a vector.
    """

    datatype: str = ""
    shape: tuple[int, ...] | None = None
    data: list[bool | int | float | str] | None = None
    file: str = ""


class Tolerance(Struct, frozen=True):
    """How far a number may be off: |got - expected| <= absolute + relative * |expected|."""

    absolute: float = 1e-4
    relative: float = 1e-4


class GoldenGeneration(Struct, frozen=True):
    """A golden test of a language model: greedy, from ``prompt`` or from ``user`` through the chat template."""

    prompt: str = ""
    user: str = ""
    max_tokens: int = 32
    contains: str = ""
    matches: str = ""


class GoldenTest(Struct, frozen=True):
    """What must come out for what goes in. Either ``inputs`` and ``outputs``, or ``generate``."""

    name: str
    inputs: dict[str, GoldenTensor] = {}
    outputs: dict[str, GoldenTensor] = {}
    tolerance: Tolerance = Tolerance()
    generate: GoldenGeneration | None = None


class Card(Struct, frozen=True):
    """What a person must know before using the model."""

    licence: str
    source: str
    intended_use: str
    limits: str
    description: str = ""


class ModelSpec(Struct, frozen=True):
    """The whole of model.toml. ``version`` is a semantic version (semver.org, 2.0.0)."""

    name: str
    version: str
    engine: EngineName
    files: tuple[ModelFile, ...]
    card: Card
    onnx: OnnxOptions = OnnxOptions()
    llama: LlamaOptions = LlamaOptions()
    limits: ModelLimits = ModelLimits()
    golden: tuple[GoldenTest, ...] = ()
    serving: Serving = Serving()

    @property
    def service_class(self) -> ServiceClass:
        """Whether it goes before others when both want the processor."""
        return self.serving.service_class or ("throughput" if self.engine == "llama" else "latency")

    @property
    def model_path(self) -> str:
        """The file the engine opens, relative to the folder."""
        return next(f.path for f in self.files if f.role == "model")
