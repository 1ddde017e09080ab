"""Log lines as they leave a process: fields, one line each, bounded in number."""

import io
import json
import logging
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance import events, limits, logs
from appliance.config import LogConfig

_log = logging.getLogger("x")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., io.StringIO]]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    sink = io.StringIO()
    # Not sys.stderr itself, which pytest replaces between a fixture and its test.
    monkeypatch.setattr(logs, "sys", types.SimpleNamespace(stderr=sink))

    def configure(format: str = "json", **always: str) -> io.StringIO:  # noqa: A002 - as in the configuration
        logs.configure(LogConfig(format=format, level="debug"), "supervisor", **always)  # type: ignore[arg-type]
        return sink

    yield configure
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def parsed(sink: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def test_facts_become_fields(configured: Callable[..., io.StringIO]) -> None:
    lines = configured()
    _log.info("m:2 is active", extra=events.MODEL_ACTIVATED.of("m", error_reason=""))
    _log.info("no event")
    first, second = parsed(lines)
    assert (first["event"], first["model"], first["message"]) == ("model.activated", "m", "m:2 is active")
    assert first["message_id"] == events.MODEL_ACTIVATED.message_id
    assert "error_reason" not in first
    assert set(second) == {"time", "level", "process", "message"}


def test_what_is_always_true_is_in_every_record(configured: Callable[..., io.StringIO]) -> None:
    lines = configured(model="m", version="1")
    _log.info("of the engine")
    _log.info("of another", extra=events.MODEL_READY.of("n"))
    assert [(each["model"], each["version"]) for each in parsed(lines)] == [("m", "1"), ("n", "1")]


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_clients_text_makes_no_line_of_its_own(configured: Callable[..., io.StringIO], format: str) -> None:  # noqa: A002
    lines = configured(format)
    forged = "id\n10:00:00 error   supervisor: the disk is full\x1b[2J"
    _log.warning("request %s failed", forged, extra=events.CALL_FAILED.of("m", request_id=forged))
    (line,) = lines.getvalue().splitlines()
    assert "\x1b" not in line
    assert "the disk is full" in line  # shown, as what it is


def test_what_is_long_is_cut(configured: Callable[..., io.StringIO]) -> None:
    lines = configured()
    _log.warning("%s", "x" * 1_000_000, extra=events.CALL_FAILED.of("m" * 1_000_000))
    (line,) = parsed(lines)
    assert len(line["message"]) == limits.log_message_chars_max
    assert len(line["model"]) == limits.log_field_chars_max


def test_a_traceback_is_indented_and_bounded(configured: Callable[..., io.StringIO]) -> None:
    lines = configured("text")
    try:
        raise ValueError("first\n10:00:00 error   forged" + "\nmore" * 100_000)
    except ValueError:
        _log.exception("failed", extra=events.INTERNAL_FAULT.of())
    first, *rest = lines.getvalue().splitlines()
    assert first.endswith("supervisor: failed")
    assert all(line.startswith("  ") for line in rest)
    assert len(lines.getvalue()) < 5 * limits.log_traceback_chars_max


def test_a_flood_is_summed_up(configured: Callable[..., io.StringIO]) -> None:
    lines = configured()
    for number in range(1260):
        facts = events.CALL_FAILED.of("m", "1", "SHAPE", request_id=f"r{number}", client="c")
        _log.info("a call of m failed", extra=facts)
    _log.error("something else", extra=events.ENGINE_DIED.of("m"))
    logging.getLogger().handlers[0].close()
    told = parsed(lines)
    assert [line["request_id"] for line in told[: limits.log_burst]] == [f"r{n}" for n in range(limits.log_burst)]
    assert told[limits.log_burst]["event"] == "engine.died"
    (last,) = told[limits.log_burst + 1 :]
    assert last["message"] == "1,240 more like this in 1 s: a call of m failed"
    assert (last["more"], last["event"], last["error_reason"]) == (1240, "call.failed", "SHAPE")
    assert not {"request_id", "client"} & set(last)


def test_what_is_held_back_is_told_in_silence_too(
    configured: Callable[..., io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "log_window_ms", 50)
    lines = configured()
    for _ in range(limits.log_burst + 3):
        _log.warning("the same", extra=events.MODEL_RUN_FAILED.of("m"))
    timer = vars(logging.getLogger().handlers[0])["_timer"]
    timer.join(10)
    assert parsed(lines)[-1]["message"] == "3 more like this in 1 s: the same"


def test_debug_lines_are_not_held_back(configured: Callable[..., io.StringIO]) -> None:
    lines = configured()
    for _ in range(limits.log_burst * 3):
        _log.debug("loading")
    assert len(parsed(lines)) == limits.log_burst * 3


def test_templates_are_alike_by_what_they_say_before_anything_is_filled_in(
    configured: Callable[..., io.StringIO],
) -> None:
    lines = configured()
    for number in range(limits.log_burst + 5):
        _log.warning("number %d", number)
        _log.warning("another %d", number)
    assert len(parsed(lines)) == 2 * limits.log_burst


def test_the_units_bound_has_room_for_ours() -> None:
    from pathlib import Path

    unit = (Path(logs.__file__).parents[2] / "packaging/systemd/inference-appliance.service").read_text()
    lines = dict(line.partition("=")[::2] for line in unit.splitlines())
    assert lines["LogRateLimitIntervalSec"] == f"{limits.log_window_ms // 1000}s"
    assert int(lines["LogRateLimitBurst"]) >= 20 * limits.log_lines_window_max
