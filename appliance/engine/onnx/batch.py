"""The tensors of several calls as those of one run."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from appliance.engine.arrays import Array
from appliance.engine.onnx.batch_axes import BatchAxes
from appliance.engine.onnx.columns import Cut, slices
from appliance.engine.onnx.planner import Waiting


class Unfit(Exception):
    """These calls can't be computed together after all."""


class Batch(NamedTuple):
    """What to run, and which rows are whose. ``cuts`` in the order of the calls."""

    feed: dict[str, Array]
    names: list[str]
    cuts: list[Cut]
    rows: int
    stateful: bool


def feed_of(call: Waiting) -> dict[str, Array]:
    """A call's inputs, and the state of its sequence as it is now."""
    return call.feed if call.ticket is None else {**call.feed, **call.ticket.states()}


def names_of(calls: Sequence[Waiting], states: Sequence[str]) -> list[str]:
    """All outputs that any of the calls wants or its sequence needs, each once."""
    first = calls[0].outputs
    if not states:
        for call in calls:
            if call.outputs is not first:
                break
        else:
            return first.names
    names = dict.fromkeys(name for call in calls for name in call.outputs.names)
    if any(call.ticket is not None for call in calls):
        names.update(dict.fromkeys(states))
    return list(names)


def together(calls: Sequence[Waiting], axes: BatchAxes, states: Sequence[str]) -> Batch:
    """Puts the calls' arrays together, each along its own axis. ``states`` are the outputs that carry state.

    Raises Unfit when states of sequences have other shapes than the calls (their own bucket doesn't show them).
    """
    feeds = [call.feed for call in calls] if not states else _checked(calls, axes)
    feed: dict[str, Array] = {}
    for name, array in feeds[0].items():
        axis = axes.inputs[name]
        feed[name] = array if axis < 0 else np.concatenate([one[name] for one in feeds], axis)
    cuts: list[Cut] = []
    start = 0
    for call in calls:
        end = start + call.rows
        cuts.append((start, end))
        start = end
    stateful = bool(states) and any(call.ticket is not None for call in calls)
    return Batch(feed, names_of(calls, states), cuts, start, stateful)


def _checked(calls: Sequence[Waiting], axes: BatchAxes) -> list[dict[str, Array]]:
    """Rows of one call beside a state with another number of them could add up all the same, and be wrong."""
    feeds = [feed_of(call) for call in calls]
    for call, feed in zip(calls, feeds, strict=True):
        if feed.keys() != feeds[0].keys():
            raise Unfit("the sequences don't have the same states")
        for name in feed.keys() - call.feed.keys():
            axis, shape = axes.inputs[name], feed[name].shape
            if axis < 0 or axis >= len(shape) or shape[axis] != call.rows:
                raise Unfit(f"the state {name!r} of a sequence has the shape {list(shape)}, its call {call.rows} rows")
    return feeds


def state_parts(
    outputs: Mapping[str, Any], states: Sequence[str], axes: BatchAxes, cuts: Sequence[Cut]
) -> list[dict[str, Array]]:
    """For each call its rows of the outputs that carry state, as views."""
    parts: list[dict[str, Array]] = [{} for _ in cuts]
    for name in states:
        for kept, part in zip(parts, slices(outputs[name], axes.outputs[name], cuts), strict=True):
            kept[name] = part
    return parts
