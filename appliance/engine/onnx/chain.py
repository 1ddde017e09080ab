"""Several ONNX files as one model: pre-processing, the model, post-processing, tensors handed on in memory.

Arrays that ONNX Runtime gives lie over its own memory, and it takes arrays without copying: handing on costs nothing but
the second call (measured: 6 us each, whatever the size; the same through OrtValues costs 45).
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

from appliance import events, limits
from appliance.engine.arrays import Array
from appliance.engine.onnx.wiring import Joint, Source, StageNodes, Wiring, wire
from appliance.errors import InvalidArgument

_log = logging.getLogger(__name__)

_BF16 = "tensor(bfloat16)"


class _Step(NamedTuple):
    """One file's part in a plan: which outputs to ask for, and where its inputs come from.

    ``given`` by the caller: (name in the file, name of the whole's input). ``taken`` from files before it: (name, place
    among all outputs that were asked for so far).
    """

    stage: int
    outputs: list[str]
    given: list[tuple[str, str]]
    taken: list[tuple[str, int]]


class _Plan(NamedTuple):
    """``results``: the places of the wanted outputs."""

    steps: list[_Step]
    results: list[int]


class Chain:
    """Stands where an InferenceSession would; see wiring.py for which tensor goes where.

    ``names`` are the files' names in model.toml. Raises InvalidArgument MODEL_FILE where the files don't fit together,
    MODEL_UNSUPPORTED where BF16, which numpy lacks, goes from file to file beside strings.
    """

    def __init__(
        self, stages: Sequence[ort.InferenceSession], feeds: Mapping[str, str], names: Sequence[str] = ()
    ) -> None:
        self._stages = list(stages)
        self._names = list(names) or [f"file {number}" for number in range(1, len(self._stages) + 1)]
        nodes = [
            StageNodes(name, s.get_inputs(), s.get_overridable_initializers(), s.get_outputs())
            for name, s in zip(self._names, self._stages, strict=True)
        ]
        self._wiring: Wiring = wire(nodes, feeds)
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._by_values = _hands_on_bf16(nodes, self._wiring)

    def get_inputs(self) -> list[Joint]:
        """What clients give."""
        return self._wiring.inputs

    def get_outputs(self) -> list[Joint]:
        """The last file's outputs, and those of earlier files that no later one takes."""
        return self._wiring.outputs

    def get_overridable_initializers(self) -> list[Joint]:
        """Inputs that have a default in their file."""
        return self._wiring.defaults

    def get_providers(self) -> list[str]:
        """Those that the files have in common, in the first one's order."""
        others = [stage.get_providers() for stage in self._stages[1:]]
        return [p for p in self._stages[0].get_providers() if all(p in other for other in others)]

    def run(self, names: Sequence[str], feed: Mapping[str, Any], run_options: Any = None) -> list[Any]:
        """As InferenceSession.run. Files that ``names`` don't need are left out."""
        if not self._by_values:
            return self._run(names, feed, "run", run_options)
        values = {n: _value(a) for n, a in feed.items()}
        # Copies: the views would not keep their values alive.
        return [np.array(value.numpy()) for value in self.run_with_ort_values(names, values, run_options)]

    def run_with_ort_values(
        self, names: Sequence[str], feed: Mapping[str, ort.OrtValue], run_options: Any = None
    ) -> list[ort.OrtValue]:
        """As InferenceSession.run_with_ort_values."""
        return self._run(names, feed, "run_with_ort_values", run_options)

    def _run(self, names: Sequence[str], feed: Mapping[str, Any], method: str, run_options: Any) -> list[Any]:
        plan = self._plans.get(tuple(names)) or self._plan(tuple(names))
        values: list[Any] = []
        for stage, outputs, given, taken in plan.steps:
            takes = {name: values[place] for name, place in taken}
            for name, whole in given:
                if whole in feed:
                    takes[name] = feed[whole]
            try:
                values += getattr(self._stages[stage], method)(outputs, takes, run_options)
            except Exception:
                _log.warning("the failure is in %s", self._names[stage], extra=events.MODEL_RUN_FAILED.of())
                raise
        return [values[place] for place in plan.results]

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        plan = make_plan(self._wiring, names)
        if len(self._plans) < limits.output_plans_max:
            self._plans[names] = plan
        return plan


def make_plan(wiring: Wiring, names: Sequence[str]) -> _Plan:
    """Which files have to run, and for which of their outputs, so that the chain gives ``names``."""
    stages = range(len(wiring.sources))
    wanted: list[dict[str, None]] = [{} for _ in stages]
    for name in names:
        wanted[wiring.givers[name]][name] = None
    for stage in reversed(stages):
        for source in wiring.sources[stage].values() if wanted[stage] else ():
            if source.stage >= 0:
                wanted[source.stage][source.name] = None
    order = [Source(stage, output) for stage in stages for output in wanted[stage]]
    places = {source: place for place, source in enumerate(order)}
    steps = []
    for stage in stages:
        if wanted[stage]:
            sources = wiring.sources[stage].items()
            given = [(name, source.name) for name, source in sources if source.stage < 0]
            taken = [(name, places[source]) for name, source in sources if source.stage >= 0]
            steps.append(_Step(stage, list(wanted[stage]), given, taken))
    return _Plan(steps, [places[Source(wiring.givers[name], name)] for name in names])


def _hands_on_bf16(nodes: Sequence[StageNodes], wiring: Wiring) -> bool:
    """Whether a tensor on its way from file to file is BF16, which only OrtValues carry."""
    kinds = {(i, node.name): node.type for i, stage in enumerate(nodes) for node in stage.outputs}
    taken = {(s.stage, s.name) for of in wiring.sources for s in of.values() if s.stage >= 0}
    if not any(kinds[place] == _BF16 for place in taken):
        return False
    ends = (*wiring.inputs, *wiring.defaults, *wiring.outputs)
    if any(kind == "tensor(string)" for kind in (*kinds.values(), *(e.type for e in ends))):
        raise InvalidArgument(
            "a BF16 tensor goes from one file of the chain to the next beside tensors of strings, which ONNX Runtime's"
            " Python interface can't carry together; add a Cast to FP32",
            reason="MODEL_UNSUPPORTED",
        )
    return True


def _value(given: Array | ort.OrtValue) -> ort.OrtValue:
    return given if isinstance(given, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(given)
