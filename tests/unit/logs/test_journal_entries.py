"""Entries of the journal: when they are made, what is in them, and the way they go."""

import logging
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_simulator import JournalSimulator, parse

from appliance import events, logs
from appliance.config import LogConfig
from appliance.logs import Prepared, configure, journal, journal_socket
from appliance.osutil.seccomp import forbid_network


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[JournalSimulator]:
    """Standard error is a file that $JOURNAL_STREAM names, and the journal listens."""
    with (
        tempfile.TemporaryDirectory(prefix="ia-") as name,
        JournalSimulator(Path(name) / "socket") as listening,
        (Path(name) / "stderr").open("w+") as stderr,
    ):
        found = os.fstat(stderr.fileno())
        # Not sys.stderr itself, which pytest replaces between a fixture and its test.
        for module in (logs, journal):
            monkeypatch.setattr(module, "sys", types.SimpleNamespace(stderr=stderr))
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setenv("APPLIANCE_JOURNAL_SOCKET", str(listening.path))
        yield listening


@pytest.fixture
def logger(simulator: JournalSimulator) -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure(LogConfig(), "engine m:1", Prepared(), model="m", version="1")
    yield logging.getLogger("x")
    root.handlers[:] = before
    root.setLevel(level)


def stderr_text() -> str:
    return Path(f"/proc/self/fd/{vars(journal)['sys'].stderr.fileno()}").read_text()


def test_fields(logger: logging.Logger, simulator: JournalSimulator) -> None:
    facts = events.CALL_FAILED.of("m", "1", "SHAPE", request_id="r-1", client="ipv4:10.0.0.7", release=7)
    logger.warning("a call failed", extra=facts)
    entry = simulator.wait_for(MESSAGE="a call failed")
    assert entry.pop("CODE_FILE").endswith("test_journal_entries.py")
    assert entry.pop("CODE_LINE").isdigit()
    assert entry == {
        "MESSAGE": "a call failed",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "inference-appliance",
        "APPLIANCE_PROCESS": "engine m:1",
        "APPLIANCE_EVENT": "call.failed",
        "MESSAGE_ID": events.CALL_FAILED.message_id,
        "MODEL": "m",
        "VERSION": "1",
        "REQUEST_ID": "r-1",
        "CLIENT": "ipv4:10.0.0.7",
        "ERROR_REASON": "SHAPE",
        "RELEASE": "7",
    }


@pytest.mark.parametrize(("level", "priority"), [("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")])
def test_priorities(logger: logging.Logger, simulator: JournalSimulator, level: str, priority: str) -> None:
    getattr(logger, level)("text")
    assert simulator.wait_for(MESSAGE="text")["PRIORITY"] == priority


def test_a_clients_text_makes_no_field_of_its_own(logger: logging.Logger, simulator: JournalSimulator) -> None:
    logger.warning("of %s", "m\nPRIORITY=0", extra=events.CALL_FAILED.of(request_id="r\nCLIENT=root"))
    entry = simulator.wait_for(REQUEST_ID="r\\nCLIENT=root")
    assert (entry["MESSAGE"], entry["PRIORITY"]) == ("of m\\nPRIORITY=0", "4")
    assert "CLIENT" not in entry


def test_a_traceback_follows_the_message(logger: logging.Logger, simulator: JournalSimulator) -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed", extra=events.INTERNAL_FAULT.of())
    entry = simulator.wait_for(MESSAGE_ID=events.INTERNAL_FAULT.message_id)
    assert entry["MESSAGE"].splitlines()[0] == "failed"
    assert entry["MESSAGE"].splitlines()[-1] == "  ValueError: bad"


def test_an_entry_that_no_datagram_holds_comes_as_a_sealed_file(simulator: JournalSimulator) -> None:
    send = journal_socket.by_socket()
    assert send is not None
    long = "line\n" * 200_000
    send({"MESSAGE": long})
    assert simulator.wait_for(MESSAGE=long)
    send({"MESSAGE": "short"})
    assert simulator.wait_for(MESSAGE="short")
    assert simulator.files <= 1
    # The kernel's bound of a datagram depends on the machine; the file's way must work on every one.
    sock = vars(journal_socket)["socket"].socket(1, 2)
    sock.connect(str(simulator.path))
    before = simulator.files
    journal_socket.send_file(sock, journal_socket.encode({"MESSAGE": "as a file"}))
    assert simulator.wait_for(MESSAGE="as a file")
    assert simulator.files == before + 1
    sock.close()


def test_without_the_journal_its_stream_gets_the_line(logger: logging.Logger, simulator: JournalSimulator) -> None:
    simulator.close()
    logger.error("nobody listens")
    logger.info("nor now")
    assert stderr_text().splitlines() == ["<3>engine m:1: nobody listens", "<6>engine m:1: nor now"]


def test_a_journal_whose_socket_is_new_is_found_again(logger: logging.Logger, simulator: JournalSimulator) -> None:
    simulator.close()
    simulator.path.unlink()
    with JournalSimulator(simulator.path) as again:
        logger.info("still here")
        again.wait_for(MESSAGE="still here")
    assert stderr_text() == ""


def test_a_journal_that_hangs_costs_a_bounded_wait_and_no_record(
    logger: logging.Logger, simulator: JournalSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = vars(logging.getLogger().handlers[0])["_inner"]
    waits: list[int] = []

    def full(fields: object) -> None:
        waits.append(1)
        raise TimeoutError

    monkeypatch.setattr(handler, "_send", full)
    for number in range(5):
        logger.warning("line %d", number)
    assert len(waits) == 1
    assert len(stderr_text().splitlines()) == 5


@pytest.mark.parametrize("stream", ["", "8:1", "x", "1:2:3"])
def test_another_stderr_is_not_the_journal(
    simulator: JournalSimulator, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    assert journal.listens()
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    assert not journal.listens()
    assert Prepared().send is None


def test_a_format_that_is_asked_for_wins(logger: logging.Logger, simulator: JournalSimulator) -> None:
    configure(LogConfig(format="json"), "supervisor")
    logger.info("as JSON")
    assert '"message": "as JSON"' in stderr_text()
    assert not simulator.matching(MESSAGE="as JSON")


def test_it_goes_on_behind_an_engines_filter(logger: logging.Logger, simulator: JournalSimulator) -> None:
    """In a child: the filter is for good."""
    pid = os.fork()
    if pid == 0:
        try:
            sealed = forbid_network()
            logger.info("sealed %s", sealed)
            logger.info("long %s", "x" * 3000)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert simulator.wait_for(MESSAGE="sealed True")
    assert stderr_text() == ""


def test_libsystemds_module_is_used_where_it_is(simulator: JournalSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    module = types.ModuleType("systemd")
    module.journal = types.SimpleNamespace(sendv=lambda *fields: sent.extend(fields))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd", module)
    assert journal_socket.by_libsystemd() is None  # a test's socket is not its own
    monkeypatch.delenv("APPLIANCE_JOURNAL_SOCKET")
    send = journal_socket.by_libsystemd()
    assert send is not None
    send({"MESSAGE": "größer", "PRIORITY": "6"})
    assert sent == ["MESSAGE=größer".encode(), b"PRIORITY=6"]


def test_encoding_is_what_the_protocol_says() -> None:
    """The example of https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, in our names."""
    entry = journal_socket.encode({"MESSAGE": "foo\nbar", "PRIORITY": "6"})
    assert entry == b"MESSAGE\n\x07\x00\x00\x00\x00\x00\x00\x00foo\nbar\nPRIORITY=6\n"
    assert parse(entry) == {"MESSAGE": "foo\nbar", "PRIORITY": "6"}
