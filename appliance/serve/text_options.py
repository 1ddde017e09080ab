"""The options of a generation in the Open Inference Protocol: their names, their JSON object, and what they mean. Pure.

vLLM's names for constraints and adapters are read too, for clients that have them.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from appliance.calls import Constraint, GenerateCall, Sampling
from appliance.errors import InvalidArgument
from appliance.serve.generation_checks import check
from appliance.serve.validate import quote

JSON = "sampling_parameters"
# Inputs of one element each, by the datatype that metadata names; all of them may be in the JSON object as well.
FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
INTEGERS = ("top_k", "repeat_last_n", "seed", "max_tokens", "min_tokens")
BOOLS = ("ignore_eos",)
TEXTS = ("adapter", "json_schema", "regex", "grammar")
STOP = "stop"

_ALIASES = {
    "guided_json": "json_schema",
    "guided_json_object": "json_object",
    "guided_regex": "regex",
    "guided_choice": "choices",
    "guided_grammar": "grammar",
    "lora_name": "adapter",
}
_CONSTRAINTS = ("json_schema", "json_object", "regex", "grammar", "lark", "gbnf", "choices")

# What a frame carries; which of these a sampler takes is the engine's to say.
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _OptionsJson(msgspec.Struct, forbid_unknown_fields=True):
    """What ``sampling_parameters`` may hold. ``grammar`` is GBNF where it has "::=", else Lark."""

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
    n: _Integer | None = None
    min_tokens: _Integer | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[_Integer] | None = None
    logit_bias: dict[_Integer, float] | None = None
    adapter: str | None = None
    # As it was written: to be compiled it must be text again. (A union with None would not be read as Raw.)
    json_schema: msgspec.Raw = msgspec.Raw(b"null")
    json_object: bool | None = None
    regex: str | None = None
    grammar: str | None = None
    lark: str | None = None
    gbnf: str | None = None
    choices: list[str] | None = None
    guided_json: msgspec.Raw = msgspec.Raw(b"null")
    guided_json_object: bool | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None
    guided_choice: list[str] | None = None
    lora_name: str | None = None


def from_json(text: str) -> dict[str, Any]:
    """The options that ``text`` sets, by their own names; raises InvalidArgument."""
    try:
        # Not strict: clients of vLLM's convention send numbers as strings.
        parsed = msgspec.json.decode(text, type=_OptionsJson, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"input '{JSON}': {_explain(text, error)}", reason="SAMPLING_PARAMETERS") from None
    except (msgspec.DecodeError, RecursionError):
        raise InvalidArgument(
            f"input '{JSON}' is not valid JSON, or nested too deeply", reason="SAMPLING_PARAMETERS"
        ) from None
    options: dict[str, Any] = {}
    for name in _OptionsJson.__struct_fields__:
        value = getattr(parsed, name)
        if isinstance(value, msgspec.Raw):
            value = _schema_text(bytes(value))
        if value is None:
            continue
        own = _ALIASES.get(name, name)
        if own in options:
            raise InvalidArgument(f"input '{JSON}' has both '{own}' and '{name}', which are the same")
        options[own] = value
    return options


def _schema_text(raw: bytes) -> str | None:
    """A schema as an object, or as a string that holds one; null is none."""
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    return None if raw == b"null" else raw.decode()


def _explain(text: str, error: msgspec.ValidationError) -> str:
    try:
        keys = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return str(error)
    if isinstance(keys, dict):
        known = _OptionsJson.__struct_fields__
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


def to_call(prompt: str, options: dict[str, Any], deadline_ns: int, priority: int, client: str) -> GenerateCall:
    """The generation of ``prompt`` under ``options``, which are named as in the JSON object. Raises InvalidArgument."""
    if options.pop("n", 1) != 1:
        raise InvalidArgument(
            "n is not offered here: a request has one text_output. Send several requests, or use "
            "appliance.v1.Generation",
            reason="N",
        )
    stop = options.pop(STOP, ())
    constraint = _constraint({name: options.pop(name) for name in _CONSTRAINTS if name in options})
    call = GenerateCall(
        deadline_ns,
        priority,
        prompt,
        max_tokens=options.pop("max_tokens", 0),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        client=client,
        constraint=constraint,
        min_tokens=options.pop("min_tokens", 0),
        ignore_eos=options.pop("ignore_eos", False),
        stop_token_ids=tuple(options.pop("stop_token_ids", ())),
        logit_bias=tuple(sorted(options.pop("logit_bias", {}).items())),
        adapter=options.pop("adapter", ""),
    )
    call.sampling = Sampling(**options)
    return check(call)


def _constraint(given: dict[str, Any]) -> Constraint | None:
    if given.get("json_object") is False:
        del given["json_object"]
    if len(given) > 1:
        raise InvalidArgument(
            f"{' and '.join(given)} came, but an answer can have only one of them", reason="CONSTRAINTS"
        )
    for name, value in given.items():
        if name == "json_object":
            return Constraint("json")
        if name == "choices":
            return Constraint("choice", choices=tuple(value))
        if name == "grammar":
            return Constraint("gbnf" if "::=" in value else "lark", value)
        return Constraint(name, value)  # type: ignore[arg-type]  # the others have the names of their kinds
    return None
