"""Language models over the Open Inference Protocol, by convention: text in, text out, as tensors. Pure.

Inputs: ``text_input`` BYTES [1]; ``stream`` BOOL [1] (default true); options either as inputs of their own
(``temperature`` FP32 [1], ``max_tokens`` INT32 [1], ``stop`` BYTES [n], ...) or as one JSON object in
``sampling_parameters`` BYTES [1]. Output: ``text_output`` BYTES [1]. A tensor of one element may have any rank.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from appliance import limits
from appliance.calls import GenerateCall, OutputWanted
from appliance.errors import InvalidArgument
from appliance.serve import bytes_tensor, text_options
from appliance.serve.text_options import BOOLS, FLOATS, INTEGERS, JSON, STOP, TEXTS, near
from appliance.serve.validate import quote
from appliance.tensor_heads import TensorHead
from appliance.types import BYTES, DATATYPE_BYTES, Buffer

TEXT_INPUT = "text_input"
TEXT_OUTPUT = "text_output"
_STREAM = "stream"
# vLLM's name; an answer here never repeats its prompt.
_EXCLUDE_INPUT = "exclude_input_in_output"

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
INPUT_NAMES = (TEXT_INPUT, _STREAM, JSON, STOP, _EXCLUDE_INPUT, *FLOATS, *INTEGERS, *BOOLS, *TEXTS)


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
    client: str = "",
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
    return TextRequest(text_options.to_call(prompt, _options(inputs), deadline_ns, priority, client), stream)


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
    if JSON in inputs:
        options = text_options.from_json(_text(*inputs.pop(JSON), limits.parameter_string_bytes_max))
    for name, (head, data) in inputs.items():
        if name in options:
            raise InvalidArgument(f"'{name}' is given twice: as an input and in '{JSON}'", reason="INPUT_DUPLICATE")
        options[name] = _option(name, head, data)
    return options


def _option(name: str, head: TensorHead, data: Buffer) -> object:
    if name == STOP:
        return _texts(head, data)
    if name in TEXTS:
        return _text(head, data, limits.constraint_bytes_max)
    if name in BOOLS:
        return bool(_number(head, data, "BOOL"))
    return _number(head, data, "INT32" if name in INTEGERS else "FP32")


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
