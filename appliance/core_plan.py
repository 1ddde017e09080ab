"""Who computes on which cores: a pure function from a machine's cores and its loaded models to a place for each process.

The plan is what keeps the number of running threads below what anybody could be surprised by. Throughput engines take
turns by the step (worker/board.py), so of theirs as many threads run at a time as one of them has; each latency engine
adds one thread that runs for a millisecond, and goes before them (osutil/scheduling.py).

- Front-ends: one makes some 10,000 small calls a second on its core, and costs 39 MB. On two cores, which it shares with
  engines and clients, a second one made 3 % at 4 in flight and 11 % at 64: not worth its memory. One for every four cores.
- Latency models: one thread unless somebody names more. Small models are fastest so: a forest of 100 trees takes 7 us,
  less than waking a second thread. They are not pinned: under a real-time class the kernel moves them to a core where
  nobody of their kind runs.
- Throughput models: on up to three cores all of them, since the latency path goes before them anyway and a core left
  free would cost a third to a half of every answer. From four cores on, one core in eight is left free, at least one:
  all threads of a language model wait for the one whose core was taken, so there a free core costs less than it gives.
"""

from collections.abc import Sequence

import msgspec

from appliance.model_spec import ServiceClass

# Beyond, one more front-end brings nothing: an engine's loop takes in what some three of them send, and few boxes serve
# more than two or three busy models.
FRONT_ENDS_MAX = 8
_CORES_TO_ONE_FRONT_END = 4
# From so many cores on a core is left free of throughput models.
_ROOM_FROM_CORES = 4
_CORES_TO_ONE_FREE = 8


class Load(msgspec.Struct, frozen=True):
    """A model that is to run. ``threads``: what its model.toml or the configuration names, 0: nobody does."""

    name: str
    service_class: ServiceClass
    threads: int = 0
    instances: int = 1


class Place(msgspec.Struct, frozen=True):
    """What one engine process gets: the cores it may use, in their order, and the number of its compute threads."""

    cores: tuple[int, ...]
    threads: int


class CorePlan(msgspec.Struct, frozen=True):
    """``front_ends``: the core of each, -1: any. ``engines``: the places of each model's instances, by its name."""

    front_ends: tuple[int, ...]
    engines: dict[str, tuple[Place, ...]]


def front_ends(cores: int) -> int:
    """How many front-ends a machine of so many cores gets when nobody names a number."""
    return min(FRONT_ENDS_MAX, max(1, cores // _CORES_TO_ONE_FRONT_END))


def front_end_core(number: int, cores: Sequence[int]) -> int:
    """The core of front-end ``number``: one that drifts over two cores does half the work. -1 where there is only one.

    From the lowest on: those are the ones that throughput models leave free.
    """
    ordered = sorted(cores)
    return ordered[number % len(ordered)] if len(ordered) > 1 else -1


def throughput_cores(cores: Sequence[int]) -> tuple[int, ...]:
    """The cores that throughput models may use: all, or from four on the upper ones."""
    ordered = tuple(sorted(cores))
    free = max(1, len(ordered) // _CORES_TO_ONE_FREE) if len(ordered) >= _ROOM_FROM_CORES else 0
    return ordered[free:]


def places(load: Load, cores: Sequence[int]) -> tuple[Place, ...]:
    """Where the instances of a model run on a machine with these ``cores`` (ids, at least one).

    Instances of a throughput model divide its cores, so that they run side by side; where there are fewer cores than
    instances, some share one and take turns.
    """
    if load.service_class == "latency":
        ordered = tuple(sorted(cores))
        return (Place(ordered, _bounded(load.threads or 1, ordered)),) * load.instances
    own = throughput_cores(cores)
    parts = (_part(own, number, load.instances) for number in range(load.instances))
    return tuple(Place(part, _bounded(load.threads or len(part), part)) for part in parts)


def make_plan(cores: Sequence[int], front_end_count: int, loads: Sequence[Load]) -> CorePlan:
    """The whole plan. ``front_end_count`` 0: as many as ``front_ends`` says."""
    count = front_end_count or front_ends(len(cores))
    pinned = tuple(front_end_core(number, cores) for number in range(count))
    return CorePlan(pinned, {load.name: places(load, cores) for load in loads})


def _bounded(threads: int, cores: tuple[int, ...]) -> int:
    """More threads than cores make a model slower: they wait for each other."""
    return min(threads, len(cores))


def _part(cores: tuple[int, ...], number: int, parts: int) -> tuple[int, ...]:
    """The ``number``th of ``parts`` parts, neighbours together, none empty."""
    start, end = number * len(cores) // parts, (number + 1) * len(cores) // parts
    return cores[start : max(end, start + 1)]
