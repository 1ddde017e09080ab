"""The rules of model.toml that types can't express: names, versions, paths, ranges, and what fits which engine."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from appliance import limits, semver
from appliance.errors import InvalidArgument
from appliance.model_spec import GoldenTensor, GoldenTest, ModelSpec
from appliance.store import near
from appliance.types import BYTES, DATATYPE_BYTES

FILE_NAME = "model.toml"
REASON = "MODEL_TOML"

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_CHARS_MAX = 60
_PATH_BYTES_MAX = 1024
_COMPONENT_BYTES_MAX = 255  # NAME_MAX of every Linux file system we run on


def refuse(key: str, problem: str) -> NoReturn:
    """Raises InvalidArgument naming the file, the key's place in it (empty: the whole file) and the problem."""
    raise InvalidArgument(": ".join(filter(None, (FILE_NAME, key, problem))), reason=REASON)


def key_path(steps: Sequence[str | int], *more: str) -> str:
    """``golden[0].inputs.x``: how a person would write where a value is."""
    text = ""
    for step in (*steps, *more):
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = step if _BARE_KEY.fullmatch(step) else show(step)
            text += f".{key}" if text else key
    return text


def show(value: Any) -> str:
    """A value as a person wrote it, shortened; tables and lists only by kind."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)[:_SHOWN_CHARS_MAX]
    text = value if len(value) <= _SHOWN_CHARS_MAX else value[:_SHOWN_CHARS_MAX] + "…"
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + '"'


def check(spec: ModelSpec, document: dict[str, Any]) -> None:
    """Raises InvalidArgument for the first broken rule. ``document`` is what the file said, before defaults."""
    check_name(spec.name)
    try:
        semver.check(spec.version)
    except ValueError as error:
        refuse("version", str(error))
    for other in ("onnx", "llama"):
        if other in document and other != spec.engine:
            refuse(other, f'options of another engine: this model\'s engine is "{spec.engine}"; remove the table')
    _check_files(spec)
    _check_card(spec)
    _check_ranges(spec)
    _check_references(spec)
    _check_golden(spec)


def check_name(name: str) -> None:
    """Raises InvalidArgument unless ``name`` can be a path component, an OCI reference and a label of a metric."""
    if len(name) > limits.model_name_chars_max:
        refuse("name", f"{len(name)} characters, at most {limits.model_name_chars_max} are allowed")
    if not _NAME.fullmatch(name):
        refuse(
            "name",
            f"{show(name)}: allowed are lower-case letters, digits and . _ - inside; the first and last a letter or digit",
        )


def _check_files(spec: ModelSpec) -> None:
    if len(spec.files) > limits.files_per_model_max:
        refuse("files", f"{len(spec.files)} files, at most {limits.files_per_model_max} are allowed")
    seen: dict[str, int] = {}
    for index, file in enumerate(spec.files):
        key = f"files[{index}].path"
        problem = path_problem(file.path)
        if problem:
            refuse(key, f"{show(file.path)} {problem}")
        if file.path == FILE_NAME:
            refuse(key, f"{FILE_NAME} itself is always part of the model: don't list it")
        if file.path in seen:
            refuse(key, f"{show(file.path)} is listed already as files[{seen[file.path]}]")
        seen[file.path] = index
    models = [show(file.path) for file in spec.files if file.role == "model"]
    if len(models) != 1:
        refuse(
            "files", f'exactly one file must have the role "model", got {len(models)}: {", ".join(models) or "none"}'
        )


def path_problem(path: str) -> str:
    """What makes ``path`` unfit to name a file inside a model folder; empty when it is fit."""
    if not path:
        return "is empty"
    if any(not c.isprintable() for c in path):
        return "has a control or other unprintable character"
    if "\\" in path:
        return "has a backslash: separate folders with /"
    if path.startswith("/"):
        return "is absolute: name files relative to the model's folder"
    parts = path.split("/")
    if ".." in parts:
        return "leaves the model's folder (..)"
    if "." in parts or "" in parts:
        return "has an empty or . component: write it plainly, as in folder/file"
    if len(parts) > limits.model_path_depth_max:
        return f"is {len(parts)} levels deep, at most {limits.model_path_depth_max} are allowed"
    if len(path.encode()) > _PATH_BYTES_MAX or any(len(part.encode()) > _COMPONENT_BYTES_MAX for part in parts):
        return f"is too long: {_COMPONENT_BYTES_MAX} bytes a name and {_PATH_BYTES_MAX} altogether are allowed"
    return ""


def _check_card(spec: ModelSpec) -> None:
    for name in ("licence", "source", "intended_use", "limits"):
        if not getattr(spec.card, name).strip():
            refuse(f"card.{name}", "must say something: whoever uses the model has to know")


# (key, value, lowest, highest) of every number but the ONNX engine's; None values are unset options.
_Range = tuple[str, Callable[[ModelSpec], float | None], float, float]
_RANGES: tuple[_Range, ...] = (
    ("serving.instances", lambda s: s.serving.instances, 1, limits.instances_max),
    ("llama.threads", lambda s: s.llama.threads, 0, 1024),
    ("llama.context_tokens", lambda s: s.llama.context_tokens, 0, 2**24),
    ("llama.batch_tokens", lambda s: s.llama.batch_tokens, 1, 65536),
    ("llama.gpu_layers", lambda s: s.llama.gpu_layers, -1, 65536),
    ("llama.sampling.temperature", lambda s: s.llama.sampling.temperature, 0, 5),
    ("llama.sampling.top_k", lambda s: s.llama.sampling.top_k, 0, 2**24),
    ("llama.sampling.top_p", lambda s: s.llama.sampling.top_p, 1e-6, 1),
    ("llama.sampling.min_p", lambda s: s.llama.sampling.min_p, 0, 1),
    ("llama.sampling.repeat_penalty", lambda s: s.llama.sampling.repeat_penalty, 1e-6, 10),
    ("llama.kv_cache_tokens", lambda s: s.llama.kv_cache_tokens, 0, 2**24),
    ("limits.max_queue", lambda s: s.limits.max_queue, 0, 65536),
    ("limits.max_context", lambda s: s.limits.max_context, 0, 2**24),
    ("limits.memory_mib", lambda s: s.limits.memory_mib, 0, 2**24),
    ("limits.max_tokens", lambda s: s.limits.max_tokens, 0, 2**24),
)


def _check_ranges(spec: ModelSpec) -> None:
    for key, value_of, low, high in _RANGES:
        check_range(key, value_of(spec), low, high)


def check_range(key: str, value: float | None, low: float, high: float) -> None:
    """Raises InvalidArgument naming ``key`` unless the value is unset or within the bounds."""
    if value is not None and not low <= value <= high:  # a NaN is not in any range
        refuse(key, f"{value} is out of range: {low:g} to {high:g} are allowed")


def _check_references(spec: ModelSpec) -> None:
    if spec.llama.chat_template:
        check_listed(spec, "llama.chat_template", spec.llama.chat_template, "doc")
    for name, path in spec.llama.adapters.items():
        key = key_path(("llama", "adapters", name))
        if not 0 < len(name) <= limits.adapter_name_chars_max or not name.isprintable():
            refuse(key, f"an adapter's name has 1 to {limits.adapter_name_chars_max} printable characters")
        check_listed(spec, key, path, "adapter")
    drafts = [file.path for file in spec.files if file.role == "draft"]
    if len(drafts) > 1:
        refuse("files", f'at most one file may have the role "draft", got {len(drafts)}')
    if spec.llama.speculation == "draft" and not drafts:
        refuse("llama.speculation", '"draft" needs a file with the role "draft"')
    if len(spec.llama.pinned) > limits.pinned_prefixes_max:
        refuse("llama.pinned", f"{len(spec.llama.pinned)} prefixes, at most {limits.pinned_prefixes_max} are allowed")
    for index, pinned in enumerate(spec.llama.pinned):
        if bool(pinned.system) == bool(pinned.prompt):
            refuse(f"llama.pinned[{index}]", "name either system or prompt")


def check_listed(spec: ModelSpec, key: str, path: str, role: str) -> None:
    """Raises InvalidArgument naming ``key`` unless ``path`` is a file of the model with this role."""
    found = {file.path: file.role for file in spec.files}.get(path)
    if found is None:
        known = [file.path for file in spec.files]
        refuse(key, f'{show(path)} is not listed in files{near.hint(path, known)}; list it with the role "{role}"')
    if found != role:
        refuse(key, f'{show(path)} is listed with the role "{found}", this use needs the role "{role}"')


def _check_golden(spec: ModelSpec) -> None:
    if len(spec.golden) > limits.golden_tests_max:
        refuse("golden", f"{len(spec.golden)} tests, at most {limits.golden_tests_max} are allowed")
    seen: set[str] = set()
    for index, test in enumerate(spec.golden):
        key = f"golden[{index}]"
        if not test.name.strip():
            refuse(f"{key}.name", "is empty")
        if test.name in seen:
            refuse(f"{key}.name", f"{show(test.name)} is the name of an earlier test: each needs its own")
        seen.add(test.name)
        for name in ("absolute", "relative"):
            check_range(f"{key}.tolerance.{name}", getattr(test.tolerance, name), 0, math.inf)
        _check_golden_kind(spec, key, test)


def _check_golden_kind(spec: ModelSpec, key: str, test: GoldenTest) -> None:
    if test.generate is not None:
        if spec.engine == "onnx":
            refuse(f"{key}.generate", "a model of the engine onnx takes tensors: give inputs and outputs")
        if test.inputs or test.outputs:
            refuse(key, "give either inputs and outputs, or generate, not both")
        _check_generation(f"{key}.generate", test)
        return
    if spec.engine == "llama":
        refuse(key, "a model of the engine llama is tested by generate = { prompt = …, contains = … }")
    if not test.inputs or not test.outputs:
        refuse(key, f"{'outputs' if test.inputs else 'inputs'} are missing: a test needs both")
    for side, tensors in (("inputs", test.inputs), ("outputs", test.outputs)):
        for name, tensor in tensors.items():
            _check_tensor(spec, f"{key}.{key_path((side, name))}", tensor)


def _check_generation(key: str, test: GoldenTest) -> None:
    generate = test.generate
    assert generate is not None  # the caller has just looked
    if bool(generate.prompt) == bool(generate.user):
        refuse(key, "give exactly one of prompt (as it is) and user (through the chat template)")
    if not generate.contains and not generate.matches:
        refuse(key, "say what must come out: contains, matches or both")
    check_range(f"{key}.max_tokens", generate.max_tokens, 1, 65536)
    try:
        re.compile(generate.matches)
    except (re.error, RecursionError, OverflowError) as error:
        refuse(f"{key}.matches", f"not a regular expression: {error}")


def _check_tensor(spec: ModelSpec, key: str, tensor: GoldenTensor) -> None:
    allowed = (*DATATYPE_BYTES, BYTES)
    if tensor.datatype and tensor.datatype not in allowed:
        refuse(
            f"{key}.datatype",
            f"{show(tensor.datatype)}{near.hint(tensor.datatype, allowed)}; allowed: {', '.join(allowed)}",
        )
    if (tensor.data is None) == (not tensor.file):
        refuse(key, "give exactly one of data and file")
    if tensor.file:
        if not tensor.file.endswith(".npy"):
            refuse(f"{key}.file", f"{show(tensor.file)} is not a .npy file")
        check_listed(spec, f"{key}.file", tensor.file, "golden")
    if tensor.shape is None:
        return
    if len(tensor.shape) > limits.tensor_rank_max or any(axis < 0 for axis in tensor.shape):
        refuse(f"{key}.shape", f"at most {limits.tensor_rank_max} axes, none of them negative")
    if tensor.data is not None and math.prod(tensor.shape) != len(tensor.data):
        refuse(
            f"{key}.data",
            f"{len(tensor.data)} elements, but the shape {list(tensor.shape)} has {math.prod(tensor.shape)}",
        )
