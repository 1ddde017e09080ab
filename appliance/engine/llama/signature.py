"""What a language model takes and gives in the Open Inference Protocol: the text_input/text_output convention."""

from appliance.types import ModelKind, ModelSignature, TensorSpec

_OPTIONS = {
    "max_tokens": "INT32",
    "temperature": "FP32",
    "top_k": "INT32",
    "top_p": "FP32",
    "min_p": "FP32",
    "repeat_penalty": "FP32",
    "presence_penalty": "FP32",
    "frequency_penalty": "FP32",
    "repeat_last_n": "INT32",
    "seed": "UINT32",
    "min_tokens": "INT32",
    "ignore_eos": "BOOL",
    "adapter": "BYTES",
    "json_schema": "BYTES",
    "regex": "BYTES",
    "grammar": "BYTES",
}


def language_signature(
    *, context_tokens: int, embeds: bool, chats: bool, reranks: bool = False, adapters: tuple[str, ...] = ()
) -> ModelSignature:
    """``sampling_parameters`` is a JSON object of the same options; ``stop`` is any number of stop strings."""
    inputs = (
        TensorSpec("text_input", "BYTES", (1,)),
        TensorSpec("stream", "BOOL", (1,), optional=True),
        TensorSpec("sampling_parameters", "BYTES", (1,), optional=True),
        *(TensorSpec(name, datatype, (1,), optional=True) for name, datatype in _OPTIONS.items()),
        TensorSpec("stop", "BYTES", (-1,), optional=True),
    )
    return ModelSignature(
        kind=ModelKind.LANGUAGE,
        platform="llama_cpp",
        inputs=inputs,
        outputs=(TensorSpec("text_output", "BYTES", (1,)),),
        decoupled=True,
        context_tokens_max=context_tokens,
        embeds=embeds,
        chats=chats,
        reranks=reranks,
        adapters=adapters,
    )
