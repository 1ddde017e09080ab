"""Comparisons as the servicers use them: whose call it is, and calls whose answers are to be compared."""

import time
from collections.abc import Iterator, Sequence

from appliance import limits
from appliance.answers import AnyAnswer
from appliance.calls import AnyCall, GenerateCall, InferCall
from appliance.control import RouteTable
from appliance.serve.caller import Work
from appliance.serve.copies import Copies, Listening, Said, count, queued_ns
from appliance.serve.trials import Trial, Trials
from appliance.types import Buffer
from appliance.worker.regions import SharedRegion
from appliance.worker.router import Router


class Comparing:
    """Of one front-end. ``trials.current`` is None while nothing is compared."""

    def __init__(self, router: Router) -> None:
        self.trials = Trials()
        self.copies = Copies(router)

    def apply(self, table: RouteTable) -> None:
        """Follows the routing table. Control thread only."""
        self.trials.apply(table)
        self.copies.tidy()

    def exchange(
        self,
        trial: Trial | None,
        work: Work,
        call: AnyCall,
        buffers: Sequence[Buffer] = (),
        regions: Sequence[SharedRegion] = (),
    ) -> tuple[AnyAnswer, memoryview]:
        """Work.exchange; of a call of ``trial`` it is seen what came of it, and a copy goes to the other version."""
        if trial is None:
            return work.exchange(call, buffers, regions)
        began = time.monotonic_ns()
        answer, body = work.exchange(call, buffers, regions)
        said = Said(answer, b"", time.monotonic_ns() - began - queued_ns(answer))
        version = work.route.version
        count(trial, version, said)
        if trial.other(version):
            in_sequence = isinstance(call, InferCall) and "sequence_id" in call.parameters
            if regions or in_sequence or len(body) > limits.copy_bytes_max:
                trial.count_skipped()
            else:
                self.copies.offer(trial, version, call, buffers, said._replace(body=bytes(body)))
        return answer, body

    def stream(self, trial: Trial | None, work: Work, call: GenerateCall) -> Iterator[tuple[AnyAnswer, memoryview]]:
        """Work.stream, likewise. A text that its client does not hear to the end is not compared."""
        if trial is None:
            yield from work.stream(call)
            return
        listening = Listening(time.monotonic_ns())
        for answer, body in work.stream(call):
            listening.hear(answer)
            if answer.final:
                said, version = listening.said(answer), work.route.version
                count(trial, version, said)
                if call.n == 1:
                    self.copies.offer(trial, version, call, (), said)
                else:
                    trial.count_skipped()
            yield answer, body
