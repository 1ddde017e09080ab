"""Pure: whether a LoRA adapter's header fits the model, before the native loader sees the file.

llama.cpp asserts value types, multiplies whatever shapes the graph then meets, and passes over what it does not use; a
file of somebody else must neither end the process nor be half applied in silence. The format is that of llama.cpp's
convert_lora_to_gguf.py: for each adapted matrix W [out, in] a pair "W.lora_a" [rank, in] and "W.lora_b" [out, rank].
"""

from collections.abc import Mapping

from appliance import limits
from appliance.engine.llama.gguf_check import FLOAT32, STRING, GgufHeader, GgufTensor
from appliance.errors import InvalidArgument, Unimplemented

_A, _B = ".lora_a", ".lora_b"
_NORM = "_norm.weight"
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"
_ALORA_KEY = "adapter.alora.invocation_tokens"
_STRINGS = {"general.type": "adapter", "adapter.type": "lora"}
_ALPHA_KEY = "adapter.lora.alpha"
# What convert_lora_to_gguf.py writes: F32, F16, Q8_0, BF16.
_KINDS = (0, 1, 8, 30)


def check_adapter(header: GgufHeader, architecture: str, layout: Mapping[str, GgufTensor]) -> list[str]:
    """Raises InvalidArgument or Unimplemented with what does not fit; ``layout`` are the model's tensors.

    Gives the names of tensors that llama.cpp will pass over (norms).
    """
    _check_values(header, architecture)
    pairs: dict[str, dict[str, GgufTensor]] = {}
    ignored = []
    for name, tensor in header.layout.items():
        base, suffix = name[: -len(_A)], name[-len(_A) :]
        if suffix in (_A, _B):
            pairs.setdefault(base, {})[suffix] = tensor
        elif name.endswith(_NORM):
            ignored.append(name)
        else:
            raise _mismatch(f'tensor "{name}" is neither a lora_a nor a lora_b')
    if not pairs:
        raise _mismatch("it has no tensor")
    for base, pair in pairs.items():
        _check_pair(base, pair, layout)
    return ignored


def _check_values(header: GgufHeader, architecture: str) -> None:
    for key, wanted in _STRINGS.items():
        value = header.values.get(key)
        if header.kinds.get(key) != STRING or value != wanted:
            raise _mismatch(
                f'"{key}" is {_shown(value)} and must be "{wanted}"; is it a model or another kind of file?'
            )
    if _ALORA_KEY in header.values:
        raise Unimplemented("it is an aLoRA (it has invocation tokens), which is not served; use a plain LoRA")
    if header.kinds.get(_ALPHA_KEY) != FLOAT32:
        raise _mismatch(f'"{_ALPHA_KEY}" is missing or no 32-bit float; convert the adapter again')
    value = header.values.get("general.architecture")
    if header.kinds.get("general.architecture") != STRING or value != architecture:
        raise _mismatch(f'it is for the architecture {_shown(value)}, the model is "{architecture[:64]}"')


def _check_pair(base: str, pair: dict[str, GgufTensor], layout: Mapping[str, GgufTensor]) -> None:
    if len(pair) < 2:
        raise _mismatch(f'"{base}" has only one of lora_a and lora_b')
    target = layout.get(base)
    if target is None or len(target.shape) < 2:
        raise _mismatch(f'the model has no matrix "{base}": is the adapter for another model?')
    if any(tensor.kind not in _KINDS for tensor in pair.values()):
        raise _mismatch(f'the pair of "{base}" is not F32, F16, BF16 or Q8_0')
    columns, rows, *layers = _padded(target)
    a, b = _padded(pair[_A]), _padded(pair[_B])
    if base == _EMBEDDING:
        # Looked up, not multiplied: a is [vocabulary, rank], see llama.cpp's build_inp_embd.
        if _OUTPUT not in layout:
            raise Unimplemented("it adapts the embedding of a model that has no output matrix beside it")
        fits = a == (a[0], rows, 1, 1) and b == (a[0], columns, 1, 1)
    else:
        fits = a == (columns, a[1], *layers) and b == (a[1], rows, *layers)
    if not fits:
        raise _mismatch(
            f'the pair of "{base}" has the shapes {list(pair[_A].shape)} and {list(pair[_B].shape)}, which do not fit '
            f"{list(target.shape)}: is the adapter for another model?"
        )


def _padded(tensor: GgufTensor) -> tuple[int, ...]:
    return (*tensor.shape, *(1,) * (limits.gguf_dims_max - len(tensor.shape)))


def _shown(value: bool | int | float | str | None) -> str:
    return "missing" if value is None else f'"{str(value)[:64]}"'


def _mismatch(what: str) -> InvalidArgument:
    return InvalidArgument(what, reason="ADAPTER_MISMATCH")
