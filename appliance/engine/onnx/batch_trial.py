"""Whether rows may be computed together, and whether it pays: tried out at load on made-up data.

Axes alone prove nothing: a model may normalise over the batch, or quantise all rows by the largest of them. So some
rows are run together and alone, and must come out the same: integers, strings and truth values exactly, floats within
a few units of what their type resolves after a sum of some hundred terms (other numbers of rows go through other
kernels, which add up in another order). An integer that hangs on a tie of floats could differ by chance; on random reals
that is as good as impossible, and would only cost the batches. The second round gives rows very different sizes: only so
does a scale that they share show.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance import limits
from appliance.engine.arrays import Array, floats_from_bf16
from appliance.engine.onnx.batch_axes import BatchAxes
from appliance.engine.onnx.columns import slices, zipmap_array
from appliance.engine.onnx.made_up import random_feed
from appliance.engine.onnx.runner import Runner
from appliance.types import ModelSignature, TensorSpec

_SEED = 5
# Rows of the calls, and how large the numbers of each are in the two rounds.
_ROWS = (1, 2, 1)
_SCALES = ((1.0, 1.0, 1.0), (1.0, 0.1, 8.0))
# Relative tolerance; the absolute one is a tenth of it, times the largest number of the call's own answer.
_RELATIVE = {"FP16": 1e-2, "BF16": 4e-2, "FP32": 1e-3, "FP64": 1e-3}
# Rows that are timed together, and what they may take of the time that they take alone: below this, who comes second
# is better served by a run of his own.
_TIMED_ROWS = 8
_PAYS_BELOW = 0.75
_TIMED_RUNS_MAX = 5


class Trial:
    """One model's; ``length`` is used for dynamic axes other than the rows'."""

    def __init__(
        self, run: Runner, signature: ModelSignature, zipmaps: frozenset[str], axes: BatchAxes, length: int
    ) -> None:
        self._run = run
        self._signature = signature
        self._zipmaps = zipmaps
        self._axes = axes
        self._length = length
        self._names = [spec.name for spec in signature.outputs]

    def why_not(self) -> str:
        """What speaks against batches, in words for the log; empty when nothing does."""
        dice = np.random.default_rng(_SEED)
        try:
            started = time.perf_counter_ns()
            self._run(self._names, self._feed(1, dice, 1.0))
            took_ms = (time.perf_counter_ns() - started) / 1e6
            if took_ms > limits.batch_trial_run_ms_max:
                return f"one run takes {took_ms:.0f} ms, which is too long to try batches out at load"
            return self._differs(dice) or self._does_not_pay(dice)
        except Exception as error:  # whatever the runtime raises on made-up data
            return f"the trial on made-up data failed: {error}"

    def _feed(self, rows: int, dice: np.random.Generator, scale: float) -> dict[str, Array]:
        return random_feed(self._signature, self._axes, rows, self._length, dice, scale)

    def _differs(self, dice: np.random.Generator) -> str:
        cuts = [(sum(_ROWS[:i]), sum(_ROWS[: i + 1])) for i in range(len(_ROWS))]
        for scales in _SCALES:
            feeds = [self._feed(rows, dice, scale) for rows, scale in zip(_ROWS, scales, strict=True)]
            for name in feeds[0]:
                if self._axes.inputs[name] < 0:
                    for feed in feeds:
                        feed[name] = feeds[0][name]
            alone = [self._run(self._names, feed) for feed in feeds]
            both = dict(zip(self._names, self._run(self._names, self._joined(feeds)), strict=True))
            wrong = self._axes.wrong_output(both, sum(_ROWS))
            if wrong:
                return f"output {wrong!r} doesn't have a row for each row of the inputs"
            for at, spec in enumerate(self._signature.outputs):
                parts = slices(both[spec.name], self._axes.outputs[spec.name], cuts)
                for part, values in zip(parts, alone, strict=True):
                    if not self._same(spec, values[at], part):
                        return f"output {spec.name!r} of a row depends on the rows beside it"
        return ""

    def _joined(self, feeds: Sequence[dict[str, Array]]) -> dict[str, Array]:
        axes = self._axes.inputs
        return {
            name: array if axes[name] < 0 else np.concatenate([feed[name] for feed in feeds], axes[name])
            for name, array in feeds[0].items()
        }

    def _same(self, spec: TensorSpec, alone: Any, part: Any) -> bool:
        if spec.name in self._zipmaps:
            alone, part = zipmap_array(alone, spec), zipmap_array(part, spec)
        if alone.shape != part.shape:
            return False
        relative = _RELATIVE.get(spec.datatype)
        if relative is None:
            return bool(np.array_equal(alone, part))
        if spec.datatype == "BF16":
            alone, part = floats_from_bf16(alone), floats_from_bf16(part)
        alone, part = np.asarray(alone, np.float64), np.asarray(part, np.float64)
        finite = np.abs(alone[np.isfinite(alone)])
        absolute = relative / 10 * float(finite.max(initial=0.0))
        return bool(np.allclose(part, alone, rtol=relative, atol=absolute, equal_nan=True))

    def _does_not_pay(self, dice: np.random.Generator) -> str:
        one, many = self._feed(1, dice, 1.0), self._feed(_TIMED_ROWS, dice, 1.0)
        alone_ns, together_ns = self._timed(one), self._timed(many)
        turn_ns = alone_ns + together_ns
        runs = min(_TIMED_RUNS_MAX, limits.batch_trial_timing_ms_max * 1_000_000 // max(turn_ns, 1))
        for _ in range(runs):
            alone_ns, together_ns = min(alone_ns, self._timed(one)), min(together_ns, self._timed(many))
        if together_ns < _PAYS_BELOW * _TIMED_ROWS * alone_ns:
            return ""
        return (
            f"{_TIMED_ROWS} rows take {together_ns / 1e6:.2f} ms together and {alone_ns / 1e6:.2f} ms each alone:"
            " nothing is gained"
        )

    def _timed(self, feed: dict[str, Array]) -> int:
        started = time.process_time_ns()
        self._run(self._names, feed)
        return time.process_time_ns() - started
