"""Language models over the Open Inference Protocol, by convention: text in, text out, as tensors. Pure.

Inputs: ``text_input`` BYTES [1]; ``stream`` BOOL [1] (default true); sampling either as inputs of their own
(``temperature`` FP32 [1], ``max_tokens`` INT32 [1], ``stop`` BYTES [n], ...) or as one JSON object in
``sampling_parameters`` BYTES [1]. Output: ``text_output`` BYTES [1]. A tensor of one element may have any rank.
"""

import struct
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from appliance import limits
from appliance.calls import GenerateCall, OutputWanted, Sampling, TensorHead
from appliance.errors import InvalidArgument
from appliance.serve import bytes_tensor
from appliance.serve.validate import quote
from appliance.types import BYTES, DATATYPE_BYTES, Buffer

TEXT_INPUT = "text_input"
TEXT_OUTPUT = "text_output"
_STREAM = "stream"
_JSON = "sampling_parameters"
_STOP = "stop"
# vLLM's name; an answer here never repeats its prompt.
_EXCLUDE_INPUT = "exclude_input_in_output"

_FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
_INTEGERS = ("top_k", "repeat_last_n", "seed", "max_tokens")
_FORMATS = {
    "BOOL": "<?",
    "UINT8": "<B",
    "UINT16": "<H",
    "UINT32": "<I",
    "UINT64": "<Q",
    "INT8": "<b",
    "INT16": "<h",
    "INT32": "<i",
    "INT64": "<q",
    "FP32": "<f",
    "FP64": "<d",
}
INPUT_NAMES = (TEXT_INPUT, _STREAM, _JSON, _STOP, _EXCLUDE_INPUT, *_FLOATS, *_INTEGERS)


# What a frame carries; which of these a sampler takes is the engine's to say.
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _SamplingJson(msgspec.Struct, forbid_unknown_fields=True):
    """What ``sampling_parameters`` may hold."""

    temperature: float | None = None
    top_k: _Integer | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_last_n: _Integer | None = None
    seed: _Integer | None = None
    max_tokens: _Integer | None = None
    stop: list[str] | str | None = None


class TextRequest(NamedTuple):
    """A prompt and whether its answer comes in pieces."""

    call: GenerateCall
    stream: bool


def read(
    heads: Sequence[TensorHead],
    buffers: Sequence[Buffer],
    wanted: Sequence[OutputWanted],
    deadline_ns: int,
    priority: int,
) -> TextRequest:
    """The generation that these tensors ask for; raises InvalidArgument. Ranges of options are the engine's to check."""
    inputs = _by_name(heads, buffers)
    if TEXT_INPUT not in inputs:
        raise InvalidArgument(f"input '{TEXT_INPUT}' is missing: BYTES [1] with the prompt", reason="INPUT_MISSING")
    _check_outputs(wanted)
    prompt = _text(*inputs.pop(TEXT_INPUT), limits.prompt_bytes_max)
    stream = bool(_number(*inputs.pop(_STREAM), "BOOL")) if _STREAM in inputs else True
    if _EXCLUDE_INPUT in inputs and not _number(*inputs.pop(_EXCLUDE_INPUT), "BOOL"):
        raise InvalidArgument(f"input '{_EXCLUDE_INPUT}' can only be true: answers never repeat their prompt")
    options = _options(inputs)
    stop = options.pop(_STOP, None) or ()
    max_tokens = options.pop("max_tokens", None) or 0
    stop = check_stop((stop,) if isinstance(stop, str) else tuple(stop))
    call = GenerateCall(deadline_ns, priority, prompt, None, Sampling(**options), max_tokens, stop)
    return TextRequest(call, stream)


def check_stop(stop: tuple[str, ...]) -> tuple[str, ...]:
    """Raises InvalidArgument for too many, too long or empty stop strings."""
    if len(stop) > limits.stop_strings_max:
        raise InvalidArgument(f"{len(stop)} stop strings came, at most {limits.stop_strings_max} are allowed")
    for text in stop:
        size = len(text.encode())
        if not 0 < size <= limits.stop_string_bytes_max:
            raise InvalidArgument(
                f"a stop string has {size} bytes, from 1 to {limits.stop_string_bytes_max} are allowed"
            )
    return stop


def text_tensor(text: str) -> bytes:
    """``text`` as the bytes of a BYTES [1] tensor."""
    return bytes_tensor.pack((text.encode(),))


def _by_name(heads: Sequence[TensorHead], buffers: Sequence[Buffer]) -> dict[str, tuple[TensorHead, Buffer]]:
    inputs: dict[str, tuple[TensorHead, Buffer]] = {}
    for head, data in zip(heads, buffers, strict=True):
        if head.name not in INPUT_NAMES:
            raise InvalidArgument(
                f"a language model has no input {quote(head.name)}{near(head.name, INPUT_NAMES)}; "
                f"it takes {', '.join(INPUT_NAMES)}",
                reason="INPUT_UNKNOWN",
            )
        if head.name in inputs:
            raise InvalidArgument(f"input '{head.name}' is given twice", reason="INPUT_DUPLICATE")
        inputs[head.name] = (head, data)
    return inputs


def _check_outputs(wanted: Sequence[OutputWanted]) -> None:
    for output in wanted:
        if output.name != TEXT_OUTPUT or output.classification:
            raise InvalidArgument(
                f"a language model gives only '{TEXT_OUTPUT}', as it is; {quote(output.name)} was asked for",
                reason="OUTPUT_UNKNOWN",
            )


def _options(inputs: dict[str, tuple[TensorHead, Buffer]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if _JSON in inputs:
        options = _from_json(_text(*inputs.pop(_JSON), limits.parameter_string_bytes_max))
    for name, (head, data) in inputs.items():
        if name in options:
            raise InvalidArgument(f"'{name}' is given twice: as an input and in '{_JSON}'", reason="INPUT_DUPLICATE")
        if name == _STOP:
            options[name] = _texts(head, data)
        else:
            options[name] = _number(head, data, "INT32" if name in _INTEGERS else "FP32")
    return options


def _from_json(text: str) -> dict[str, Any]:
    try:
        # Not strict: clients of vLLM's convention send numbers as strings.
        parsed = msgspec.json.decode(text, type=_SamplingJson, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"input '{_JSON}': {_explain(text, error)}", reason="SAMPLING_PARAMETERS") from None
    except (msgspec.DecodeError, RecursionError):
        raise InvalidArgument(
            f"input '{_JSON}' is not valid JSON, or nested too deeply", reason="SAMPLING_PARAMETERS"
        ) from None
    return {name: value for name, value in msgspec.structs.asdict(parsed).items() if value is not None}


def _explain(text: str, error: msgspec.ValidationError) -> str:
    try:
        keys = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return str(error)
    if isinstance(keys, dict):
        known = _SamplingJson.__struct_fields__
        unknown = next((key for key in keys if key not in known), None)
        if unknown is not None:
            return f"unknown key {quote(unknown)}{near(unknown, known)}; known are {', '.join(known)}"
    # msgspec says which key has which type and which was expected; it knows nothing of us.
    return str(error)


def near(word: str, known: Sequence[str]) -> str:
    """``", did you mean X?"`` or nothing."""
    import difflib  # only needed when something is wrong

    matches = difflib.get_close_matches(word[:64].lower(), known, n=1)
    return f", did you mean '{matches[0]}'?" if matches else ""


def _one_element(head: TensorHead, what: str) -> None:
    if any(axis != 1 for axis in head.shape):
        raise InvalidArgument(
            f"input '{head.name}' has shape {list(head.shape)}, expected {what} [1]: one text a request", reason="SHAPE"
        )


def _text(head: TensorHead, data: Buffer, bytes_max: int) -> str:
    _one_element(head, BYTES)
    text = _texts(head, data)[0]
    size = len(data) - 4
    if size > bytes_max:
        raise InvalidArgument(f"input '{head.name}' has {size} bytes, at most {bytes_max} are allowed")
    return text


def _texts(head: TensorHead, data: Buffer) -> list[str]:
    if head.datatype != BYTES:
        raise InvalidArgument(
            f"input '{head.name}' has datatype {quote(head.datatype)}, expected BYTES", reason="DATATYPE"
        )
    count = 1
    for axis in head.shape:
        count *= axis
    try:
        bytes_tensor.check(data, count)
        return [element.decode() for element in bytes_tensor.unpack(data)]
    except bytes_tensor.BadBytesTensor as error:
        raise InvalidArgument(f"input '{head.name}' is not valid BYTES: {error}", reason="BYTES_TENSOR") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"input '{head.name}' is not UTF-8", reason="NOT_UTF8") from None


def _number(head: TensorHead, data: Buffer, expected: str) -> float | int:
    """One number; any datatype of the same kind will do."""
    _one_element(head, expected)
    datatype = head.datatype
    kinds = {"BOOL": ("BOOL",), "INT32": ("INT", "UINT"), "FP32": ("FP32", "FP64")}
    if datatype not in _FORMATS or not datatype.startswith(kinds[expected]):
        raise InvalidArgument(
            f"input '{head.name}' has datatype {quote(datatype)}, expected {expected}", reason="DATATYPE"
        )
    if len(data) != DATATYPE_BYTES[datatype]:
        raise InvalidArgument(
            f"input '{head.name}' holds {len(data)} bytes, expected {DATATYPE_BYTES[datatype]} for {datatype} [1]",
            reason="DATA_LENGTH",
        )
    number: float | int = struct.unpack(_FORMATS[datatype], data)[0]
    return number
