"""Who is next: priority, then who was given least, then arrival; and what a client's absence changes."""

import random
from dataclasses import dataclass

import pytest

from appliance import limits
from appliance.engine.llama.schedule.line import Line


@dataclass(eq=False)
class Waits:
    client: str
    priority: int = 0
    tokens: int = 10


def named(line):
    return [item.client for item in line.in_order()]


def pushed(line, *items):
    for item in items:
        line.push(item)
    return items


def test_one_client_is_served_in_the_order_of_arrival():
    line = Line()
    items = pushed(line, *(Waits("a") for _ in range(5)))
    assert list(line.in_order()) == list(items)
    assert len(line) == 5


def test_the_least_served_client_goes_first():
    line = Line()
    pushed(line, Waits("greedy"), Waits("greedy"), Waits("modest"))
    line.charge("greedy", 100)
    line.charge("modest", 1)
    assert named(line) == ["modest", "greedy", "greedy"]
    line.charge("modest", 200)
    assert named(line) == ["greedy", "greedy", "modest"]


def test_priority_comes_before_fairness_and_none_is_the_middle():
    line = Line()
    pushed(line, Waits("low", 9), Waits("none"), Waits("default", limits.priority_default), Waits("high", 1))
    line.charge("high", 10_000)
    line.charge("default", 5)
    assert named(line) == ["high", "none", "default", "low"]
    assert [line.ahead_of(p) for p in (1, 2, 0, 9)] == [1, 1, 3, 4]


def test_a_call_that_was_set_back_goes_before_its_clients_others():
    line = Line()
    first, second = pushed(line, Waits("a"), Waits("a"))
    line.remove(first)
    line.push_back(first)
    assert list(line.in_order()) == [first, second]


def test_who_comes_late_starts_level_and_who_left_has_no_claim():
    line = Line()
    (old,) = pushed(line, Waits("old"))
    line.charge("old", 1000)
    pushed(line, Waits("new"))
    line.charge("new", 1)
    assert named(line) == ["old", "new"]  # not a thousand tokens of advance for the newcomer
    line.remove(old)
    line.leave("old")
    line.charge("new", 5000)
    pushed(line, Waits("old"))
    assert named(line)[0] in {"old", "new"}
    line.charge("old", 1)
    assert named(line) == ["new", "old"]


def test_removing_what_is_not_there():
    line = Line()
    with pytest.raises((ValueError, KeyError)):
        line.remove(Waits("a"))


def test_clients_that_are_gone_are_forgotten_in_the_end():
    line = Line()
    for number in range(limits.clients_remembered_max * 2):
        (item,) = pushed(line, Waits(f"client {number}"))
        line.charge(item.client, 1)
        line.remove(item)
        line.leave(item.client)
    assert len(line._given) <= limits.clients_remembered_max + 1
    assert not line._present
    assert len(line) == 0


def test_two_clients_get_the_same_share_whatever_they_ask_for():
    """A simulation: one sends many short calls, one few long ones; tokens served differ by at most one call."""
    rng = random.Random(3)
    line, served = Line(), {"many": 0, "long": 0}
    for _ in range(400):
        line.push(Waits("many", tokens=rng.randint(1, 20)))
    for _ in range(40):
        line.push(Waits("long", tokens=rng.randint(100, 200)))
    while all(any(item.client == client for item in line) for client in served):
        item = next(line.in_order())
        line.remove(item)
        line.charge(item.client, item.tokens)
        line.leave(item.client)
        served[item.client] += item.tokens
        assert abs(served["many"] - served["long"]) <= 200
