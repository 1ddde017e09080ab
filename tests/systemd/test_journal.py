"""The real journal: fields of each process, the catalogue, and that nothing of a request stands in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_folders
import pytest
from installed_box import UNIT, Box
from rpc_failures import fails
from triton_calls import SECONDS, raw, stub

from appliance import events

SECRET = 987_654


@pytest.fixture(scope="module")
def failed(shared_box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with a model whose graph has failed on a request."""
    box = shared_box
    folder = onnx_folders.onnx_folder(tmp_path_factory.mktemp("model"), "lookup", onnx_folders.lookup())
    box.machine.put(Path(folder), "/run/models/lookup")
    box.machine.run("appliance", "models", "add", "/run/models/lookup")
    element = ("i", "INT64", [1], np.array([SECRET], np.int64).tobytes())
    with grpc.insecure_channel(box.address) as channel, fails("INVALID_ARGUMENT", "Gather"):
        stub(channel).ModelInfer(raw("lookup", element, id="request-7"), timeout=SECONDS)
    yield box
    box.machine.run("appliance", "models", "remove", "lookup", "1.0.0", "--force", check=False)


def entry(box: Box, **fields: str) -> dict[str, Any]:
    """The last entry of our unit with these fields."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        matches = [f"{name}={value}" for name, value in fields.items()]
        lines = box.machine.run("journalctl", "--unit", UNIT, "--output=json", *matches).stdout.splitlines()
        found[:] = [json.loads(line) for line in lines]
        return bool(found)

    box.eventually(there, what=f"an entry with {fields}")
    return found[-1]


def test_fields_of_a_failed_call(failed: Box) -> None:
    told = entry(failed, MESSAGE_ID=events.CALL_FAILED.message_id, MODEL="lookup")
    assert told["_TRANSPORT"] == "journal"
    assert (told["REQUEST_ID"], told["ERROR_REASON"]) == ("request-7", "MODEL_RUN_FAILED")
    assert told["APPLIANCE_PROCESS"] == "front-end 0"
    assert str(SECRET) not in json.dumps(told)


def test_an_engine_speaks_for_itself_though_it_can_make_no_socket(failed: Box) -> None:
    told = entry(failed, MESSAGE_ID=events.MODEL_RUN_FAILED.message_id)
    assert (told["_TRANSPORT"], told["APPLIANCE_PROCESS"]) == ("journal", "engine lookup:1.0.0")


def test_the_supervisor_and_the_sync_process_too(failed: Box) -> None:
    assert entry(failed, MESSAGE_ID=events.SERVICE_READY.message_id)["APPLIANCE_PROCESS"] == "supervisor"
    assert entry(failed, MESSAGE_ID=events.UPDATE_STORED.message_id, MODEL="lookup")["APPLIANCE_PROCESS"] == "sync"


def test_the_command_asks_for_them_and_the_catalogue_explains(failed: Box) -> None:
    entry(failed, MESSAGE_ID=events.MODEL_RUN_FAILED.message_id)
    shown = failed.machine.run("appliance", "logs", "--model", "lookup", "--event", "model.run_failed", "--explain")
    assert events.MODEL_RUN_FAILED.subject in shown.stdout
    assert "What to do:" in shown.stdout
    as_json = failed.machine.run("appliance", "logs", "--request", "request-7", "--json").stdout
    assert json.loads(as_json.splitlines()[-1])["MODEL"] == "lookup"
