"""What is answered about updates where no registry is configured."""

import pytest

from appliance.errors import FailedPrecondition
from appliance.questions import Nothing
from appliance.registry.no_registry import without_registry
from appliance.sync_questions import AskSync, AskTrust, AskTrustClock, AskUpdateEnded, AskVisit, SyncStatus


def test_a_status_says_that_there_is_none() -> None:
    assert without_registry(AskSync()) == SyncStatus()
    assert without_registry(AskUpdateEnded("press", "1.0.0")) == Nothing()


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (AskSync("now"), "set registry.url"),
        (AskTrust(b"{}"), "set registry.url"),
        (AskTrustClock(), "set registry.url"),
        (AskVisit("/s"), '"offline:"'),
    ],
)
def test_what_needs_one_says_how_to_get_it(question: AskSync | AskTrust | AskTrustClock | AskVisit, words: str) -> None:
    with pytest.raises(FailedPrecondition, match=words) as caught:
        without_registry(question)
    assert caught.value.reason == "NO_REGISTRY"
