"""What the sync process answers when it is asked about updates and trust."""

import msgspec

from appliance import limits
from appliance.errors import InvalidArgument, Unavailable
from appliance.questions import Answer, Nothing
from appliance.registry.loop.updates import Updates
from appliance.registry.no_registry import UpdateQuestion
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.trust import root as roots
from appliance.registry.trust.releases import Trust
from appliance.sync_questions import (
    AskPlan,
    AskSync,
    AskTrust,
    AskTrustClock,
    AskVisit,
    SyncStatus,
    TrustAnswer,
    TrustClockAnswer,
    TrustKeys,
)

_WISHES = ("", "now", "look", "pause", "resume")


class UpdateAnswers:
    """Answers one question after the other, none of which waits for the network."""

    def __init__(self, updates: Updates, trust: Trust, bandwidth: Bandwidth) -> None:
        self._updates = updates
        self._trust = trust
        self._bandwidth = bandwidth

    def answer(self, question: UpdateQuestion) -> Answer:
        """The answer; raises what Trust.install, ClockFloor.reset and Updates.visit raise."""
        if isinstance(question, AskSync):
            return self._sync(question)
        if isinstance(question, AskTrust):
            return self._root(question)
        if isinstance(question, AskTrustClock):
            return self._clock(question)
        if isinstance(question, AskPlan):
            return self._updates.planned()
        if isinstance(question, AskVisit):
            self._updates.visit(question.path)
            return self._updates.status()
        self._updates.ended(question)
        return Nothing()

    def _sync(self, question: AskSync) -> SyncStatus:
        if question.wish not in _WISHES:
            raise InvalidArgument(f"there is no wish {question.wish[:100]!r}", reason="WISH_UNKNOWN")
        if not -1 <= question.limit_kib_s <= limits.registry_bandwidth_kib_s_max:
            raise InvalidArgument(
                f"{question.limit_kib_s} KiB/s is no limit: from 0 (none) to {limits.registry_bandwidth_kib_s_max}",
                reason="BAD_LIMIT",
            )
        if question.limit_kib_s >= 0:
            self._bandwidth.limit(question.limit_kib_s * 1024)
        self._updates.wish(question.wish)
        return msgspec.structs.replace(self._updates.status(), limit_kib_s=self._bandwidth.kib_s)

    def _root(self, question: AskTrust) -> TrustAnswer:
        if len(question.root) > limits.tuf_root_bytes_max:
            raise InvalidArgument(f"{len(question.root)} bytes are no root of trust", reason="BAD_ROOT")
        facts = roots.inspect(question.root)
        outcome = ""
        if question.install:
            self._check_idle()
            outcome = self._trust.install(question.root, force=question.force)
            self._updates.wish("now")
        keys = tuple(TrustKeys(role.name, role.threshold, role.fingerprints) for role in facts.roles)
        return TrustAnswer(facts.version, facts.expires_s * 1000, keys, outcome)

    def _clock(self, question: AskTrustClock) -> TrustClockAnswer:
        floor, forgotten_s = self._trust.clock, 0
        if question.reset:
            self._check_idle()
            forgotten_s = floor.floor_s
            floor.reset()
            self._updates.wish("now")
        return TrustClockAnswer(
            floor_ms=floor.floor_s * 1000,
            machine_ms=floor.machine_s * 1000,
            judged_ms=floor.now_s() * 1000,
            fresh_until_ms=self._updates.status().fresh_until_ms,
            forgotten_ms=forgotten_s * 1000,
        )

    def _check_idle(self) -> None:
        """The courier uses the trust while it is under way."""
        if self._updates.courier.busy:
            raise Unavailable("the registry is being asked just now: try again in a moment", reason="SYNC_BUSY")
