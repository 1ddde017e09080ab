import pytest

from appliance.control import Route, RouteTable
from appliance.errors import NotFound, ResourceExhausted, Unavailable
from appliance.types import ModelState
from appliance.worker.router import Router

READY = ModelState.READY


def route(name: str = "m", version: str = "1.0.0", state: ModelState = READY, active: bool = True, **more) -> Route:
    socket = more.pop("socket", f"/nowhere/{name}-{version}" if state is READY else "")
    return Route(name, version, state, active, socket, **more)


def router(*routes: Route, applied=lambda _epoch: None, bound: int = 10) -> Router:
    made = Router(bound, applied)
    made.apply(RouteTable(1, routes))
    return made


def test_no_version_means_the_active_one() -> None:
    table = router(route(version="1.0.0", active=False), route(version="2.0.0"))
    assert table.find("m").version == "2.0.0"
    assert table.find("m", "1.0.0").version == "1.0.0"


@pytest.mark.parametrize(
    ("name", "version", "error", "words"),
    [
        ("x", "", NotFound, "Request for unknown model: 'x' is not found"),
        ("m", "9.9.9", NotFound, "'m' version '9.9.9' is not found; there is 1.0.0"),
    ],
)
def test_unknown(name: str, version: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        router(route()).acquire(name, version)


def test_without_an_active_version() -> None:
    with pytest.raises(Unavailable, match="no active version"):
        router(route(active=False)).acquire("m")


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        (ModelState.STORED, "", "stored but not loaded"),
        (ModelState.LOADING, "", "being loaded"),
        (ModelState.DRAINING, "", "being unloaded"),
        (ModelState.FAILED, "golden test 'a' failed", "could not be loaded: golden test 'a' failed"),
        (ModelState.QUARANTINED, "signal 6", "kept dying: signal 6"),
        (ModelState.RESTARTING, "", "not ready"),
    ],
)
def test_not_ready(state: ModelState, reason: str, words: str) -> None:
    with pytest.raises(Unavailable, match=words):
        router(route(state=state, reason=reason)).acquire("m")


def test_a_restarting_engine_takes_calls_while_its_socket_is_told() -> None:
    table = router(route(state=ModelState.RESTARTING, socket="/nowhere/1"))
    assert table.acquire("m").route.state is ModelState.RESTARTING


@pytest.mark.parametrize(("queue_max", "bound", "expected"), [(2, 10, 2), (0, 3, 3), (5, 3, 3)])
def test_calls_in_flight_are_bounded(queue_max: int, bound: int, expected: int) -> None:
    table = router(route(queue_max=queue_max), bound=bound)
    backends = [table.acquire("m") for _ in range(expected)]
    with pytest.raises(ResourceExhausted, match=f"its bound is {expected}"):
        table.acquire("m")
    assert table.acquire("m", bounded=False) is backends[0]  # questions about the engine itself
    table.release(backends[0])
    table.release(backends[0])
    table.acquire("m")


def test_a_table_is_applied_when_the_last_call_on_an_old_engine_has_come_back() -> None:
    epochs: list[int] = []
    table = router(route(version="1.0.0"), applied=epochs.append)
    assert epochs == [1]
    first, second = table.acquire("m"), table.acquire("m")
    table.apply(RouteTable(2, (route(version="2.0.0"),)))
    assert table.acquire("m").route.version == "2.0.0"
    table.release(first)
    assert epochs == [1]
    table.release(second)
    assert epochs == [1, 2]


def test_a_call_on_an_engine_that_stays_holds_nothing_up() -> None:
    epochs: list[int] = []
    table = router(route(), applied=epochs.append)
    table.acquire("m")
    table.apply(RouteTable(2, (route(), route(name="other"))))
    assert epochs == [1, 2]
    assert table.in_flight == 1


def test_an_older_wait_is_answered_by_a_newer_table() -> None:
    epochs: list[int] = []
    table = router(route(), applied=epochs.append)
    backend = table.acquire("m")
    table.apply(RouteTable(2, ()))
    table.apply(RouteTable(3, ()))
    table.release(backend)
    assert epochs == [1, 3]


def test_counts_are_handed_over_once() -> None:
    table = router(route())
    table.count_refused(route())
    table.count_refused(route())
    table.count_lost(route())
    assert table.take_counts() == ({"m:1.0.0": 2}, {"m:1.0.0": 1})
    assert table.take_counts() == ({}, {})
