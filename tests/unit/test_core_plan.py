"""The plan of the cores: tables for machines of all sizes, and what holds for each of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core_plan import (
    FRONT_ENDS_MAX,
    CorePlan,
    Load,
    Place,
    front_end_core,
    front_ends,
    make_plan,
    places,
    throughput_cores,
)


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 1), (4, 1), (8, 2), (16, 4), (32, 8), (64, 8), (256, 8)])
def test_front_ends_of_a_machine(cores: int, count: int) -> None:
    assert front_ends(cores) == count


@pytest.mark.parametrize(
    ("cores", "first", "count"), [(1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 1, 3), (8, 1, 7), (16, 2, 14), (64, 8, 56)]
)
def test_what_throughput_models_compute_with(cores: int, first: int, count: int) -> None:
    assert throughput_cores(range(cores)) == tuple(range(first, first + count))
    assert places(Load("m", "throughput"), range(cores)) == (Place(tuple(range(first, cores)), count),)


@pytest.mark.parametrize("cores", [1, 2, 4, 8, 16, 64])
def test_latency_models_have_one_thread_on_any_core(cores: int) -> None:
    assert places(Load("m", "latency"), range(cores)) == (Place(tuple(range(cores)), 1),)


@pytest.mark.parametrize(
    ("service_class", "cores", "named", "threads"),
    [("latency", 4, 3, 3), ("latency", 2, 8, 2), ("throughput", 2, 1, 1), ("throughput", 8, 2, 2), ("throughput", 8, 64, 7)],
)  # fmt: skip
def test_a_number_that_somebody_names(service_class, cores, named, threads) -> None:
    assert [p.threads for p in places(Load("m", service_class, named), range(cores))] == [threads]


@pytest.mark.parametrize(
    ("cores", "instances", "parts"),
    [
        (2, 2, [(0,), (1,)]),
        (2, 3, [(0,), (0,), (1,)]),
        (8, 2, [(1, 2, 3), (4, 5, 6, 7)]),
        (16, 4, [(2, 3, 4), (5, 6, 7, 8), (9, 10, 11), (12, 13, 14, 15)]),
    ],
)
def test_instances_of_a_throughput_model_divide_its_cores(cores, instances, parts) -> None:
    found = places(Load("m", "throughput", instances=instances), range(cores))
    assert [p.cores for p in found] == parts
    assert [p.threads for p in found] == list(map(len, parts))


def test_instances_of_a_latency_model_go_wherever_there_is_room() -> None:
    assert places(Load("m", "latency", instances=3), (0, 1)) == (Place((0, 1), 1),) * 3


def test_front_ends_take_the_cores_in_turn_the_lowest_first() -> None:
    assert make_plan((7, 3, 5), 4, []).front_ends == (3, 5, 7, 3)
    assert make_plan((2,), 0, []).front_ends == (-1,)
    assert [front_end_core(n, (4, 6)) for n in range(3)] == [4, 6, 4]


def running_threads_max(plan: CorePlan, throughput: list[str]) -> int:
    """The most compute threads of engines that run at a time; the models named ``throughput`` take turns."""
    taking_turns = [sum(p.threads for p in plan.engines[name]) for name in throughput]
    others = [sum(p.threads for p in own) for name, own in plan.engines.items() if name not in throughput]
    return max(taking_turns, default=0) + sum(others)


def test_throughput_models_take_turns_and_latency_models_add_one_thread_each() -> None:
    loads = [Load("a", "throughput"), Load("b", "throughput", 1), Load("c", "latency"), Load("d", "latency", 2)]
    plan = make_plan(range(2), 0, loads)
    assert running_threads_max(plan, ["a", "b"]) == 2 + 1 + 2


LOADS = st.builds(
    Load,
    st.just("m"),
    st.sampled_from(["latency", "throughput"]),
    st.integers(0, 1024),
    st.integers(1, 64),
)


@given(st.sets(st.integers(0, 511), min_size=1, max_size=80), LOADS)
def test_every_place_is_on_the_machine_and_has_no_more_threads_than_cores(cores: set[int], load: Load) -> None:
    found = make_plan(list(cores), 0, [load])
    assert 1 <= len(found.front_ends) <= max(2, min(FRONT_ENDS_MAX, len(cores)))
    assert set(found.front_ends) <= cores | {-1}
    mine = found.engines["m"]
    assert len(mine) == load.instances
    for place in mine:
        assert set(place.cores) <= cores
        assert 1 <= place.threads <= len(place.cores)
    if load.service_class == "throughput":
        assert len(cores) < 4 or min(cores) not in {core for place in mine for core in place.cores}
