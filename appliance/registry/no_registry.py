"""What is answered about updates where no registry is configured: apart from the loop, so that nothing of it is loaded."""

from appliance.errors import FailedPrecondition
from appliance.questions import Answer, Nothing
from appliance.sync_questions import AskPlan, AskSync, AskTrust, AskTrustClock, AskUpdateEnded, AskVisit, SyncStatus

UpdateQuestion = AskPlan | AskSync | AskTrust | AskTrustClock | AskUpdateEnded | AskVisit


def without_registry(question: UpdateQuestion) -> Answer:
    """The answer. Raises FailedPrecondition NO_REGISTRY."""
    if isinstance(question, AskSync) and not question.wish:
        return SyncStatus()
    if isinstance(question, AskUpdateEnded):
        return Nothing()
    if isinstance(question, AskVisit):
        raise FailedPrecondition(
            'sticks are imported where registry.url is set; without a network set it to "offline:", and start anew',
            reason="NO_REGISTRY",
        )
    raise FailedPrecondition("no registry is configured: set registry.url, and start anew", reason="NO_REGISTRY")
