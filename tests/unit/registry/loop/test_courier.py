"""The courier: one errand at a time, results and errors, and a descriptor that wakes whoever selects."""

import select
import threading

import pytest

from appliance.registry.loop.courier import Courier

DEADLINE = 10.0


def outcome_of(courier: Courier[int]):  # type: ignore[no-untyped-def]
    assert select.select([courier.fd], [], [], DEADLINE)[0]
    return courier.take()


def test_errands_one_after_the_other() -> None:
    courier: Courier[int] = Courier()
    for number in range(5):
        assert courier.take() is None
        courier.begin(lambda number=number: number * number)  # type: ignore[misc]
        assert outcome_of(courier) == (number * number, None)
        assert not courier.busy
        assert select.select([courier.fd], [], [], 0)[0] == []


def test_an_error_is_an_outcome_and_the_next_errand_goes_well() -> None:
    courier: Courier[int] = Courier()
    courier.begin(lambda: 1 // 0)
    outcome = outcome_of(courier)
    assert isinstance(outcome.error, ZeroDivisionError)
    assert outcome.result is None
    courier.begin(lambda: 7)
    assert outcome_of(courier).result == 7


def test_only_one_at_a_time() -> None:
    courier: Courier[None] = Courier()
    go_on = threading.Event()
    courier.begin(lambda: go_on.wait(DEADLINE) and None)
    assert courier.busy
    assert courier.take() is None
    with pytest.raises(RuntimeError, match="under way"):
        courier.begin(lambda: None)
    go_on.set()
    assert outcome_of(courier).error is None  # type: ignore[arg-type]
