"""model.toml's text into a ModelSpec, with errors that name the key, what came and what is allowed.

msgspec does the typing; this module turns its errors into sentences for whoever wrote the file. What goes beyond types
(names, paths, which options fit which engine) is in model_rules.py and onnx_rules.py.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, get_args, get_origin

import msgspec

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec
from appliance.store import model_rules, near, onnx_rules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = model_rules.FILE_NAME

# A step into a document: a table's key, a list's index, or ANY_KEY where msgspec doesn't say which key it was.
Step = str | int
ANY_KEY = "..."

_ERROR = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>\$[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>[0-9]+)\]|\[(?P<any>\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(r"Expected `(.*)`, got `(.*)`")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def parse(data: bytes) -> ModelSpec:
    """The whole of model.toml, checked but for the files that it lists (see model_folder.py).

    Raises InvalidArgument (reason MODEL_TOML).
    """
    if len(data) > limits.model_toml_bytes_max:
        model_rules.refuse("", f"{len(data)} bytes, at most {limits.model_toml_bytes_max} are allowed")
    document = _read(data)
    try:
        spec = msgspec.convert(document, ModelSpec)
    except msgspec.ValidationError as error:
        _explain(document, str(error))
    model_rules.check(spec, document)
    onnx_rules.check(spec)
    return spec


def _read(data: bytes) -> dict[str, Any]:
    try:
        # Editors on Windows put a byte order mark first.
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _bad(f"not UTF-8 (byte {error.start}, line {line})") from None
    except RecursionError:
        raise _bad("tables or lists are nested too deeply") from None
    except ValueError as error:
        raise _bad(f"not valid TOML: {error}") from None


def _bad(text: str) -> InvalidArgument:
    return InvalidArgument(f"{FILE_NAME}: {text}", reason=model_rules.REASON)


def _explain(document: dict[str, Any], message: str) -> NoReturn:
    match = _ERROR.fullmatch(message)
    what, path = (match["what"], match["path"] or "$") if match else (message, "$")
    steps = _pin(document, _steps(path), message)
    kind = _type_at(steps)
    if unknown := _UNKNOWN.fullmatch(what):
        allowed = [field.encode_name for field in msgspec.structs.fields(kind)]
        name = unknown[1]
        model_rules.refuse(
            model_rules.key_path(steps, name), f"unknown key{near.hint(name, allowed)}; allowed: {', '.join(allowed)}"
        )
    if missing := _MISSING.fullmatch(what):
        model_rules.refuse(model_rules.key_path(steps, missing[1]), "this key is missing")
    came = model_rules.show(_value_at(document, steps))
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind) if choice != ""]
        model_rules.refuse(
            model_rules.key_path(steps), f"{came}{near.hint(came, choices)}; allowed: {', '.join(choices)}"
        )
    if expected := _EXPECTED.fullmatch(what):
        wanted = " or ".join(_WORDS.get(word, word) for word in expected[1].split(" | ") if word != "null")
        model_rules.refuse(model_rules.key_path(steps), f"{came} is not {wanted}")
    model_rules.refuse(model_rules.key_path(steps), f"{came}: {what}")


def _steps(path: str) -> list[Step]:
    return [int(m["index"]) if m["index"] else m["any"] or m["name"] for m in _STEP.finditer(path.removeprefix("$"))]


def _pin(document: dict[str, Any], steps: list[Step], message: str) -> list[Step]:
    """Finds which key each ANY_KEY stands for: the one that gives the same error when it is alone in its table."""
    pinned: list[Step] = []
    for step in steps:
        key = step
        if step == ANY_KEY:
            table = _value_at(document, pinned)
            for candidate in table:
                alone = _replaced(document, pinned, {candidate: table[candidate]})
                if _error_of(alone) == message:
                    key, document = candidate, alone
                    break
        pinned.append(key)
    return pinned


def _error_of(document: Any) -> str:
    try:
        msgspec.convert(document, ModelSpec)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _replaced(value: Any, steps: Sequence[Step], new: Any) -> Any:
    """A copy of ``value`` with ``new`` at ``steps``."""
    if not steps:
        return new
    copy = value.copy()
    copy[steps[0]] = _replaced(value[steps[0]], steps[1:], new)
    return copy


def _value_at(value: Any, steps: Sequence[Step]) -> Any:
    for step in steps:
        value = value[step]
    return value


def _type_at(steps: Sequence[Step]) -> Any:
    """The annotation of the place in ModelSpec that ``steps`` lead to."""
    kind: Any = ModelSpec
    for step in steps:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == step)
        else:
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        options = [option for option in get_args(kind) if option is not type(None)]
        if type(None) in get_args(kind):
            kind = options[0]
    return kind
