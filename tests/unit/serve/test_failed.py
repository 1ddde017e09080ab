"""What the log says of a failed call, and what it never says."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from appliance import events
from appliance.errors import ApplianceError, Cancelled, InternalError, InvalidArgument
from appliance.pb.appliance.v1 import generation_pb2
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.serve import failed, status
from appliance.serve.convert import LargeRequest
from appliance.serve.failed import NOTHING, Asked, asked_of
from appliance.serve.handlers import Malformed

PEER = SimpleNamespace(peer=lambda: "ipv4:10.0.0.7:5432", auth_context=dict)
INFER = pb.ModelInferRequest(model_name="m", model_version="1", id="r")


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        (INFER, Asked("m", "1", "r")),
        (LargeRequest(INFER, []), Asked("m", "1", "r")),
        (generation_pb2.ChatRequest(model="m", version="2"), Asked("m", "2")),
        (pb.ModelReadyRequest(name="m", version="3"), Asked("m", "3")),
        (pb.ServerLiveRequest(), NOTHING),
        (Malformed(InvalidArgument("no protobuf")), NOTHING),
        (iter(()), NOTHING),
    ],
)
def test_what_a_request_says_of_itself(request_: Any, asked: Asked) -> None:
    assert asked_of(request_) == asked


def test_fields_and_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    error = InvalidArgument("input 'x' has the value 'the secret of a prompt'", reason="SHAPE")
    failed.note(error, PEER, Asked("m", "1", "r"))
    (record,) = caplog.records
    assert record.getMessage() == "a call of m:1 failed: INVALID_ARGUMENT (SHAPE)"
    facts = {"request_id": "r", "client": "ipv4:10.0.0.7"}
    assert vars(record)["facts"] == events.CALL_FAILED.of("m", "1", "SHAPE", **facts)["facts"]
    assert "secret" not in str(vars(record))


@pytest.mark.parametrize(
    ("error", "level"), [(InvalidArgument("x"), logging.INFO), (InternalError("x"), logging.WARNING)]
)
def test_levels(caplog: pytest.LogCaptureFixture, error: ApplianceError, level: int) -> None:
    caplog.set_level("INFO")
    failed.note(error, None, NOTHING)
    assert [record.levelno for record in caplog.records] == [level]


def test_a_client_that_gives_up_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    failed.note(Cancelled("gone"), PEER, Asked("m"))
    assert caplog.records == []


def test_a_call_that_has_ended_has_no_client(caplog: pytest.LogCaptureFixture) -> None:
    def gone() -> str:
        raise ValueError("the call is over")

    caplog.set_level("INFO")
    failed.note(InvalidArgument("x"), SimpleNamespace(peer=gone, auth_context=dict), Asked("m"))
    assert "client" not in vars(caplog.records[0])["facts"]


def test_a_name_is_cut_and_stays_on_its_line() -> None:
    shown = failed.call_of(Asked("m\n" + "x" * 10_000, "\x1b[2J"))
    assert len(shown) < 200
    assert shown.isprintable()


def test_a_fault_is_found_by_the_id_that_the_client_was_told(caplog: pytest.LogCaptureFixture) -> None:
    for asked, told in ((Asked("m", "1", "mine"), "mine"), (Asked("m"), None)):
        try:
            raise RuntimeError("boom")
        except RuntimeError:
            message = status.internal_message(PEER, asked)
        facts = vars(caplog.records[-1])["facts"]
        assert message.endswith(f"request id {facts['request_id']}")
        assert told in (None, facts["request_id"])
        assert (facts["error_reason"], facts["client"]) == ("INTERNAL", "ipv4:10.0.0.7")
        assert caplog.records[-1].exc_info
