"""The rules of model.toml for ONNX models: batches, chains of files, states of sequences, facts about outputs.

What only the ONNX files can tell (whether there is such an input, of which shape) their engine checks when it loads them.
"""

import math
from collections.abc import Callable

from appliance import limits
from appliance.model_spec import ModelSpec
from appliance.store import model_rules
from appliance.store.model_rules import key_path, refuse, show

# (key, value, lowest, highest) of every number.
_RANGES: tuple[tuple[str, Callable[[ModelSpec], float], float, float], ...] = (
    ("onnx.threads", lambda s: s.onnx.threads, 0, 1024),
    ("onnx.warmup_rows", lambda s: s.onnx.warmup_rows, 0, 65536),
    ("onnx.batch_rows_max", lambda s: s.onnx.batch_rows_max, 0, 65536),
    ("onnx.batch_wait_us_max", lambda s: s.onnx.batch_wait_us_max, 0, limits.batch_wait_us_max),
    ("onnx.sequence.idle_seconds_max", lambda s: s.onnx.sequence.idle_seconds_max, 1, limits.sequence_idle_seconds_max),
    ("onnx.sequence.sequences_max", lambda s: s.onnx.sequence.sequences_max, 1, limits.tensor_sequences_max),
)
# Files that only ONNX models have, and how such a file's name ends.
_ROLES = {"preprocess": "", "postprocess": "", "state": ".npy", "statistics": ".json"}


def check(spec: ModelSpec) -> None:
    """Raises InvalidArgument for the first broken rule."""
    for key, value_of, low, high in _RANGES:
        model_rules.check_range(key, value_of(spec), low, high)
    _check_roles(spec)
    for output, path in spec.onnx.labels.items():
        model_rules.check_listed(spec, key_path(("onnx", "labels", output)), path, "labels")
    _check_batches(spec)
    _check_outputs(spec)
    _check_states(spec)


def _check_roles(spec: ModelSpec) -> None:
    for index, file in enumerate(spec.files):
        ending = _ROLES.get(file.role)
        if ending is None:
            continue
        if spec.engine == "llama":
            refuse(f"files[{index}].role", f'a model of the engine llama has no file with the role "{file.role}"')
        if not file.path.endswith(ending):
            refuse(f"files[{index}].path", f'{show(file.path)}: a file with the role "{file.role}" ends in {ending}')
    chain = [file for file in spec.files if file.role in ("preprocess", "model", "postprocess")]
    if len(chain) > limits.chain_files_max:
        refuse(
            "files",
            f"{len(chain)} ONNX files run one after the other, at most {limits.chain_files_max} are allowed: put some of"
            " them into one (onnx.compose.merge_models)",
        )
    if spec.onnx.feeds and len(chain) == 1:
        refuse("onnx.feeds", 'only a chain has feeds: list a file with the role "preprocess" or "postprocess"')
    if sum(file.role == "statistics" for file in spec.files) > 1:
        refuse("files", 'at most one file may have the role "statistics"')


def _check_batches(spec: ModelSpec) -> None:
    options = spec.onnx
    for name, axis in options.batch_axes.items():
        model_rules.check_range(key_path(("onnx", "batch_axes", name)), axis, -1, limits.tensor_rank_max - 1)
    preferred = options.batch_rows_preferred
    if len(preferred) > limits.batch_rows_preferred_max:
        refuse(
            "onnx.batch_rows_preferred",
            f"{len(preferred)} sizes, at most {limits.batch_rows_preferred_max} are allowed",
        )
    rows_max = options.batch_rows_max or limits.batch_rows_default_max
    for index, rows in enumerate(preferred):
        model_rules.check_range(f"onnx.batch_rows_preferred[{index}]", rows, 1, rows_max)
    if list(preferred) != sorted(set(preferred)):
        refuse("onnx.batch_rows_preferred", "list each size once, in ascending order")
    if len(set(options.providers)) != len(options.providers):
        refuse("onnx.providers", "list each provider once, in the order of preference")


def _check_outputs(spec: ModelSpec) -> None:
    for name, facts in spec.onnx.outputs.items():
        key = key_path(("onnx", "outputs", name))
        for field, chars_max in (
            ("unit", limits.output_unit_chars_max),
            ("description", limits.output_description_chars_max),
        ):
            text = getattr(facts, field)
            if len(text) > chars_max:
                refuse(f"{key}.{field}", f"{len(text)} characters, at most {chars_max} are allowed")
            if not text.isprintable():
                refuse(f"{key}.{field}", "has a control or other unprintable character; write it in one line")
        if facts.threshold is not None and not math.isfinite(facts.threshold):
            refuse(f"{key}.threshold", f"{facts.threshold} is not a finite number")


def _check_states(spec: ModelSpec) -> None:
    states = spec.onnx.sequence.states
    if len(states) > limits.sequence_states_max:
        refuse("onnx.sequence.states", f"{len(states)} states, at most {limits.sequence_states_max} are allowed")
    seen: set[tuple[str, str]] = set()
    for index, state in enumerate(states):
        key = f"onnx.sequence.states[{index}]"
        for field, name in (("input", state.input), ("output", state.output)):
            if not name:
                refuse(f"{key}.{field}", "is empty: name the tensor as the ONNX file does")
            if (field, name) in seen:
                refuse(f"{key}.{field}", f"{show(name)} belongs to an earlier state: each has its own")
            seen.add((field, name))
            if spec.onnx.batch_axes.get(name, state.batch_axis) != state.batch_axis:
                refuse(f"{key}.batch_axis", f"onnx.batch_axes says {spec.onnx.batch_axes[name]} for {show(name)}")
        model_rules.check_range(f"{key}.batch_axis", state.batch_axis, -1, limits.tensor_rank_max - 1)
        if state.initial:
            model_rules.check_listed(spec, f"{key}.initial", state.initial, "state")
