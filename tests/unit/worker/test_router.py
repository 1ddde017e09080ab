import pytest

from appliance.control import Route, RouteTable
from appliance.errors import NotFound, ResourceExhausted, Unavailable
from appliance.types import ModelKind, ModelSignature, ModelState
from appliance.worker.router import Router

READY = ModelState.READY


def route(name: str = "m", version: str = "1.0.0", state: ModelState = READY, active: bool = True, **more) -> Route:
    socket = more.pop("socket", f"/nowhere/{name}-{version}" if state is READY else "")
    return Route(name, version, state, active, socket, **more)


def router(*routes: Route, applied=lambda _epoch, _busy: None, bound: int = 10) -> Router:
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


Told = list[tuple[int, tuple[str, ...]]]


def follow(*routes: Route) -> tuple[Router, Told]:
    told: Told = []
    return router(*routes, applied=lambda epoch, busy: told.append((epoch, busy))), told


def test_it_tells_which_old_engines_have_calls_until_the_last_has_come_back() -> None:
    table, told = follow(route(version="1.0.0"))
    assert told == [(1, ())]
    first, second = table.acquire("m"), table.acquire("m")
    table.apply(RouteTable(2, (route(version="2.0.0"),)))
    assert table.acquire("m").route.version == "2.0.0"
    table.release(first)
    assert told[1:] == [(2, ("/nowhere/m-1.0.0",))]
    table.release(second)
    assert told[2:] == [(2, ())]


def test_a_call_on_an_engine_that_stays_holds_nothing_up() -> None:
    table, told = follow(route())
    table.acquire("m")
    table.apply(RouteTable(2, (route(), route(name="other"))))
    assert told == [(1, ()), (2, ())]
    assert table.in_flight == 1


def test_a_long_call_on_one_old_engine_does_not_hold_up_another() -> None:
    table, told = follow(route(), route(name="other"))
    long, short = table.acquire("m"), table.acquire("other")
    table.apply(RouteTable(2, ()))
    assert set(told[-1][1]) == {"/nowhere/m-1.0.0", "/nowhere/other-1.0.0"}
    table.release(short)
    assert told[-1] == (2, ("/nowhere/m-1.0.0",))
    table.apply(RouteTable(3, ()))
    table.release(long)
    assert told[-2:] == [(3, ("/nowhere/m-1.0.0",)), (3, ())]


def test_an_engine_that_comes_back_before_its_calls_have_is_the_same_one() -> None:
    table, told = follow(route())
    backend = table.acquire("m")
    table.apply(RouteTable(2, (route(state=ModelState.LOADING),)))
    table.apply(RouteTable(3, (route(),)))
    assert told[-1] == (3, ())
    assert table.acquire("m") is backend
    table.release(backend)
    table.release(backend)
    assert told[-1] == (3, ())  # nothing more to tell: it is no old one any more
    assert (len(told), table.in_flight) == (3, 0)


# --- several instances -----------------------------------------------------------------------------------------------


def shared(count: int, epoch: int = 1, down: tuple[int, ...] = (), **more) -> RouteTable:
    sockets = [f"/nowhere/{number}" for number in range(count) if number not in down]
    return RouteTable(epoch, (route(socket=sockets[0], more_sockets=tuple(sockets[1:]), **more),))


def instances(count: int, bound: int = 100, **more) -> Router:
    made = Router(bound)
    made.apply(shared(count, **more))
    return made


def where(table: Router, **how) -> str:
    """The instance of a call that comes back at once."""
    backend = table.acquire("m", **how)
    table.release(backend)
    return backend.pool.path


def test_calls_go_to_the_least_busy_instance() -> None:
    table = instances(3)
    held = [table.acquire("m") for _ in range(6)]
    assert sorted(b.in_flight for b in set(held)) == [2, 2, 2]
    table.release(held[4])
    assert [table.acquire("m"), table.acquire("m").in_flight] == [held[4], 3]


def test_idle_instances_take_turns() -> None:
    table = instances(3)
    assert len({where(table) for _ in range(3)}) == 3


def test_front_ends_begin_at_different_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for pid in (100, 101):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        seen.add(where(instances(2)))
    assert len(seen) == 2


def test_the_bound_is_the_whole_models() -> None:
    table = instances(4, queue_max=5)
    for _ in range(5):
        table.acquire("m")
    with pytest.raises(ResourceExhausted, match="has 5 calls in flight, its bound is 5"):
        table.acquire("m")


def test_calls_on_an_instance_that_died_count_until_they_are_back() -> None:
    table = instances(2, queue_max=2)
    held = [table.acquire("m"), table.acquire("m")]
    table.apply(shared(2, 2, down=(0,), queue_max=2))
    with pytest.raises(ResourceExhausted):
        table.acquire("m")
    table.release(next(b for b in held if b.pool.path == "/nowhere/0"))
    assert table.acquire("m").pool.path == "/nowhere/1"


def test_a_dead_instance_gets_no_call_and_a_living_one_keeps_its_connections() -> None:
    table = instances(2)
    before = {b.pool.path: b for b in (table.acquire("m"), table.acquire("m"))}
    table.apply(shared(2, 2, down=(0,)))
    assert {where(table) for _ in range(4)} == {"/nowhere/1"}
    assert table.acquire("m") is before["/nowhere/1"]
    table.apply(shared(2, 3))
    assert where(table) == "/nowhere/0"


def test_one_instance_may_be_asked_for() -> None:
    table = instances(3)
    for path in ("/nowhere/2", "/nowhere/0"):
        assert where(table, instance=path, bounded=False) == path
    assert where(table, instance="/nowhere/gone") in {"/nowhere/0", "/nowhere/1", "/nowhere/2"}


def test_all_front_ends_send_a_sequence_to_the_same_instance() -> None:
    one, other = instances(4), instances(4)
    other.acquire("m")  # however busy its instances are
    homes = {key: where(one, sticky=key) for key in (f"client{c}\0{s}" for c in range(20) for s in range(5))}
    assert {key: where(other, sticky=key) for key in homes} == homes
    assert len(set(homes.values())) == 4


def test_an_instance_that_dies_takes_only_its_own_sequences_with_it() -> None:
    table = instances(3)
    homes = {key: where(table, sticky=key) for key in map(str, range(200))}
    table.apply(shared(3, 2, down=(1,)))
    moved = {key: where(table, sticky=key) for key in homes}
    assert {k for k in homes if homes[k] != moved[k]} == {k for k in homes if homes[k] == "/nowhere/1"}
    assert len({moved[k] for k in homes if homes[k] == "/nowhere/1"}) == 2  # shared out among the others


def test_what_is_remembered_of_a_signature_outlives_a_table() -> None:
    def signature() -> ModelSignature:
        return ModelSignature(ModelKind.TENSOR, "test", (), ())

    table = router(route(signature=signature()))
    before = table.find("m").signature
    table.apply(RouteTable(2, (route(signature=signature(), reason="other"),)))
    assert table.find("m").signature is before
    assert table.find("m").reason == "other"


class Counted(dict):  # type: ignore[type-arg]  # of whatever the router keeps
    """Counts how often it is looked at."""

    looks = 0

    def __getitem__(self, key):
        type(self).looks += 1
        return super().__getitem__(key)

    def __iter__(self):
        raise AssertionError("all models are looked at")

    keys = values = items = __iter__  # type: ignore[assignment]


@pytest.mark.parametrize("version", ["", "1.0.0"])
def test_a_call_looks_at_one_model_however_many_there_are(version: str) -> None:
    for count in (1, 50):
        table = router(*(route(name=f"m{number}") for number in range(count)))
        table._versions, table._active, table._models = Counted(table._versions), Counted(table._active), Counted()
        Counted.looks = 0
        table.release(table.acquire("m0", version))
        assert Counted.looks == 1


def test_counts_are_handed_over_once() -> None:
    table = router(route())
    table.count_refused(route())
    table.count_refused(route())
    table.count_lost(route())
    assert table.take_counts() == ({"m:1.0.0": 2}, {"m:1.0.0": 1})
    assert table.take_counts() == ({}, {})
