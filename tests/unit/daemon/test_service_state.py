"""What a service manager is told, decided from how the daemon stands."""

import pytest

from appliance import limits
from appliance.daemon.service_state import Facts, ServiceState, sentence, silent
from appliance.types import ModelState

READY, LOADING, FAILED = ModelState.READY, ModelState.LOADING, ModelState.FAILED
WHERE = ("127.0.0.1:8001",)
EXTENDED = f"EXTEND_TIMEOUT_USEC={limits.service_start_extension_ms * 1000}"


def facts(missing: tuple[str, ...] = (), silent: tuple[str, ...] = (), **models: ModelState | None) -> Facts:
    return Facts(WHERE, True, models, missing, silent)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (Facts(), "starting: the model store is being read"),
        (Facts(known=True), "starting: no front-end listens yet"),
        (facts(), "listening on 127.0.0.1:8001, without a model: `appliance models add` brings one"),
        (facts(a=READY), "serving 1 model on 127.0.0.1:8001"),
        (facts(a=READY, b=READY), "serving 2 models on 127.0.0.1:8001"),
        (facts(a=READY, b=READY, smollm2=LOADING), "2 of 3 models are ready; loading smollm2"),
        (facts(a=LOADING), "the only model is not ready; loading a"),
        (facts(a=READY, b=FAILED), "1 of 2 models are ready; not available: b (`appliance status` says why)"),
        (
            facts(("b", "c"), a=READY, b=ModelState.RESTARTING, c=None),
            "1 of 3 models are ready; loading b; not available: c (`appliance status` says why); required: b, c",
        ),
        (
            facts(a=LOADING, b=LOADING, c=LOADING, d=LOADING, e=LOADING, f=LOADING),
            "0 of 6 models are ready; loading a, b, c, d and 2 more",
        ),
        (facts(silent=("sync",), a=READY), "serving 1 model on 127.0.0.1:8001; no sign of life from sync"),
    ],
)
def test_sentence(how: Facts, text: str) -> None:
    assert sentence(how) == text


def test_a_sentence_is_one_bounded_line() -> None:
    text = sentence(facts(**{"x" * 120 + f"\n{i}": FAILED for i in range(9)}))
    assert "\n" not in text
    assert len(text) == limits.service_status_chars_max


@pytest.mark.parametrize(
    "how",
    [
        Facts(),
        Facts(known=True, models={"a": READY}),
        Facts(WHERE, False),
        facts(("a",), a=LOADING),
        facts(("a",), a=None),
    ],
)
def test_not_ready_and_the_start_may_take_longer(how: Facts) -> None:
    lines = ServiceState(watchdog=False).lines(how)
    assert "READY=1" not in lines
    assert EXTENDED in lines


def test_ready_is_told_once_and_changes_in_words() -> None:
    state = ServiceState(watchdog=False)
    assert state.lines(facts(("a",), a=LOADING)) == [
        "STATUS=the only model is not ready; loading a; required: a",
        EXTENDED,
    ]
    assert state.lines(facts(("a",), a=LOADING)) == [EXTENDED]
    assert state.lines(facts(a=READY)) == ["READY=1", "STATUS=serving 1 model on 127.0.0.1:8001"]
    assert state.lines(facts(a=READY)) == []
    lost = state.lines(facts(("a",), a=FAILED))
    assert [line.partition("=")[0] for line in lost] == ["STATUS"]


def test_models_that_nobody_requires_may_come_later() -> None:
    assert "READY=1" in ServiceState(watchdog=False).lines(facts(a=LOADING))


def test_only_proof_of_life_of_all_parts_feeds_the_watchdog() -> None:
    state = ServiceState(watchdog=True)
    assert state.lines(facts(a=READY))[-1] == "WATCHDOG=1"
    assert state.lines(facts(a=READY)) == ["WATCHDOG=1"]
    hung = state.lines(facts(silent=("front-end 0",), a=READY))
    assert hung == ["STATUS=serving 1 model on 127.0.0.1:8001; no sign of life from front-end 0"]
    assert state.lines(facts(silent=("front-end 0",), a=READY)) == []
    assert state.lines(facts(a=READY))[-1] == "WATCHDOG=1"


def test_a_start_that_hangs_is_not_extended() -> None:
    assert ServiceState(watchdog=False).lines(Facts(silent=("sync",)))[1:] == []


def test_an_engine_that_hangs_does_not_starve_the_watchdog() -> None:
    state = ServiceState(watchdog=True)
    state.lines(facts(a=READY))
    assert "WATCHDOG=1" in state.lines(facts(a=ModelState.RESTARTING))


def test_a_reload_tells_its_beginning_and_its_end() -> None:
    state = ServiceState(watchdog=True)
    state.lines(facts(a=READY))
    words = "reloading the configuration and the certificates"
    assert state.reloading(7_000_900) == ["RELOADING=1", "MONOTONIC_USEC=7000", f"STATUS={words}"]
    assert state.lines(facts(a=LOADING)) == ["WATCHDOG=1"]  # a word about models would hide that it still goes on
    assert state.reloaded("") == ["READY=1"]
    assert state.lines(facts(a=READY))[0] == "STATUS=serving 1 model on 127.0.0.1:8001"


def test_what_went_wrong_with_a_reload_is_told_until_the_next() -> None:
    state = ServiceState(watchdog=False)
    state.lines(facts(a=READY))
    state.reloading(1)
    assert state.reloaded("no such\nfile") == ["READY=1"]
    words = "no such file"
    assert state.lines(facts(a=READY)) == [f"STATUS=serving 1 model on 127.0.0.1:8001; {words}"]
    state.reloading(2)
    state.reloaded("")
    assert words not in state.lines(facts(a=READY))[0]


def test_a_reload_before_the_service_is_ready_does_not_make_it_so() -> None:
    state = ServiceState(watchdog=False)
    assert state.reloading(1) == []
    assert state.reloaded("") == []
    assert "READY=1" in state.lines(facts(a=READY))


def test_stopping_takes_as_long_as_calls_may() -> None:
    lines = ServiceState(watchdog=True).stopping(600.0)
    usec = 600_000_000 + limits.service_stop_extension_ms * 1000
    assert lines == [
        "STOPPING=1",
        "STATUS=stopping: running calls may finish within 600 s",
        f"EXTEND_TIMEOUT_USEC={usec}",
    ]


def test_silence() -> None:
    late = limits.proof_of_life_ms_max
    assert silent({"sync": 1000, "front-end 0": 1001}, 1001 + late) == ("sync",)
    assert silent({"sync": 10_000}, 1000) == ()  # a back-off: the next proof is due later


def test_the_watchdog_of_the_unit_leaves_room_for_the_daemons_own_recovery() -> None:
    from pathlib import Path

    unit = (Path(__file__).parents[3] / "packaging/systemd/inference-appliance.service").read_text()
    seconds = next(int(line.partition("=")[2]) for line in unit.splitlines() if line.startswith("WatchdogSec="))
    start_ms = 5_000
    recovery_ms = limits.beat_silence_ms_max + limits.restart_backoff_ms_max + start_ms
    assert seconds * 1000 > recovery_ms - limits.proof_of_life_ms_max
