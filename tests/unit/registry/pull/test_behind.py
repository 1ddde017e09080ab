"""Steps that a thread of its own takes: in order, not too many ahead, and none of their failures is lost."""

import threading
from collections.abc import Callable, Iterator

import pytest

from appliance.registry.pull.behind import Behind

DEADLINE = 10


@pytest.fixture
def behind() -> Iterator[Behind]:
    made = Behind("test", 2)
    yield made
    made.close()


def fails(error: BaseException) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


def test_all_steps_are_taken_in_order_by_another_thread(behind: Behind) -> None:
    taken: list[tuple[int, str]] = []
    for number in range(100):
        behind.do(lambda number=number: taken.append((number, threading.current_thread().name)))  # type: ignore[misc]
    behind.settle()
    assert taken == [(number, "test") for number in range(100)]


def test_no_more_wait_than_are_allowed(behind: Behind) -> None:
    go_on, begun, placed = threading.Event(), threading.Event(), threading.Event()
    behind.do(lambda: (begun.set(), go_on.wait(DEADLINE)))
    assert begun.wait(DEADLINE)
    behind.do(lambda: None)
    behind.do(lambda: None)

    def fourth() -> None:
        behind.do(lambda: None)
        placed.set()

    waiting = threading.Thread(target=fourth)
    waiting.start()
    assert not placed.wait(0.05)
    go_on.set()
    assert placed.wait(DEADLINE)
    waiting.join()


def test_a_failure_is_raised_by_the_next_call_and_ends_it_all(behind: Behind) -> None:
    taken: list[int] = []
    ready = threading.Event()
    behind.do(lambda: (ready.wait(DEADLINE), fails(OSError("the disk is full"))()))
    behind.do(lambda: taken.append(0))
    ready.set()
    with pytest.raises(OSError, match="full"):
        behind.settle()
    assert taken == []
    for call in (behind.settle, lambda: behind.do(lambda: taken.append(1))):
        with pytest.raises(OSError, match="full"):
            call()


def test_closing_waits_for_what_has_begun() -> None:
    made = Behind("test", 2)
    begun, go_on, over = threading.Event(), threading.Event(), []
    made.do(lambda: (begun.set(), go_on.wait(DEADLINE), over.append(True)))
    assert begun.wait(DEADLINE)
    threading.Timer(0.02, go_on.set).start()
    made.close()
    assert over == [True]
    made.close()
    # One that was never used has no thread to wait for; a failure that nobody asked about holds nobody up.
    Behind("unused", 1).close()
    failed = Behind("failed", 1)
    failed.do(fails(KeyError("x")))
    failed.close()
