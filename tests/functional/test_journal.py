"""The real daemon whose standard error is a (simulated) journal: each process's entries arrive with their fields."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_folders
import pytest
from certificates import issue
from daemon_process import Daemon
from journal_simulator import JournalSimulator
from rpc_failures import fails
from running import add
from triton_calls import SECONDS, raw, stub

from appliance import events, limits

SECRET = 987_654
FORGED = "r-1\nPRIORITY=0\nMESSAGE=the disk is full"


@pytest.fixture
def journal(short_path: Path) -> Iterator[JournalSimulator]:
    with JournalSimulator(short_path / "journal") as listening:
        yield listening


@pytest.fixture
def logged(short_path: Path, journal: JournalSimulator) -> Iterator[Daemon]:
    """A daemon with mutual TLS that takes its standard error for the journal, with the model "lookup"."""
    folder = short_path / "d"
    folder.mkdir()
    authority = issue("authority")
    issue("box", authority).write(folder, "server")
    issue("press line 7", authority).write(folder, "client")
    authority.write(folder, "authority")
    config = f"""[server]
address = "127.0.0.1:0"
front_ends = 1
[server.tls]
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
client_ca = "{folder}/authority.pem"
"""
    daemon = Daemon(folder, config=config, journal=journal.path)
    try:
        daemon.ready()
        add(daemon, onnx_folders.onnx_folder(short_path, "lookup", onnx_folders.lookup()))
        yield daemon
    finally:
        daemon.stop()
        print("\n".join(daemon.log), *journal.entries, sep="\n")


@pytest.fixture
def ask(logged: Daemon) -> Iterator[Callable[..., Any]]:
    """Asks "lookup" for an element, as the client "press line 7"."""
    folder = logged.folder
    pem = [(folder / name).read_bytes() for name in ("authority.pem", "client.key", "client.pem")]
    with grpc.secure_channel(logged.address, grpc.ssl_channel_credentials(*pem)) as channel:

        def call(index: int, model: str = "lookup", **more: Any) -> Any:
            element = ("i", "INT64", [1], np.array([index], np.int64).tobytes())
            return stub(channel).ModelInfer(raw(model, element, **more), timeout=SECONDS)

        yield call


def test_entries_of_all_processes(journal: JournalSimulator, logged: Daemon, ask: Callable[..., Any]) -> None:
    ready = journal.wait_for(MESSAGE_ID=events.SERVICE_READY.message_id)
    assert (ready["APPLIANCE_PROCESS"], ready["PRIORITY"]) == ("supervisor", "6")
    active = journal.wait_for(MESSAGE_ID=events.MODEL_ACTIVATED.message_id)
    assert (active["MODEL"], active["VERSION"]) == ("lookup", "1.0.0")
    assert journal.wait_for(APPLIANCE_PROCESS="sync", MESSAGE_ID=events.UPDATE_STORED.message_id)

    with fails("INVALID_ARGUMENT", "Gather"):
        ask(SECRET, model_version="1.0.0", id=FORGED)
    of_front_end = journal.wait_for(MESSAGE_ID=events.CALL_FAILED.message_id)
    assert of_front_end["APPLIANCE_PROCESS"] == "front-end 0"
    assert of_front_end["REQUEST_ID"] == FORGED.replace("\n", "\\n")
    assert of_front_end["CLIENT"] == "press line 7"
    assert (of_front_end["MODEL"], of_front_end["VERSION"]) == ("lookup", "1.0.0")
    assert of_front_end["ERROR_REASON"] == "MODEL_RUN_FAILED"
    # Its filter lets it make no socket: this one was made before.
    of_engine = journal.wait_for(MESSAGE_ID=events.MODEL_RUN_FAILED.message_id)
    assert of_engine["APPLIANCE_PROCESS"] == "engine lookup:1.0.0"
    assert (of_engine["MODEL"], of_engine["VERSION"], of_engine["PRIORITY"]) == ("lookup", "1.0.0", "4")

    assert str(SECRET) not in str(of_front_end)
    assert not journal.matching(PRIORITY="0")
    assert {entry["SYSLOG_IDENTIFIER"] for entry in journal.entries} == {"inference-appliance"}
    # Nothing goes to the stream as well.
    assert logged.log == []


def test_floods_are_summed_up_when_the_daemon_stops_at_the_latest(
    journal: JournalSimulator, logged: Daemon, ask: Callable[..., Any]
) -> None:
    calls = 3 * limits.log_burst
    for number in range(calls):
        with fails("INVALID_ARGUMENT"):
            ask(SECRET, id=str(number))
        with fails("NOT_FOUND"):
            ask(0, model=f"model{number}")
    failed = {"MESSAGE_ID": events.CALL_FAILED.message_id}
    assert len(journal.matching(**failed, MODEL="lookup")) == limits.log_burst
    assert len(journal.matching(**failed)) <= limits.log_event_burst
    assert len(journal.matching(MESSAGE_ID=events.MODEL_RUN_FAILED.message_id)) == limits.log_burst
    assert logged.stop() == 0
    for kind in (events.CALL_FAILED, events.MODEL_RUN_FAILED):
        more = journal.wait_for(
            MESSAGE_ID=kind.message_id, MODEL="lookup", APPLIANCE_MORE=str(calls - limits.log_burst)
        )
        assert more["MESSAGE"].startswith(f"{calls - limits.log_burst} more like this in ")
