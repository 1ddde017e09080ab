"""What the lanes of all servers of a front-end work with."""

from collections.abc import Callable
from typing import NamedTuple

from appliance.serve.express.answers import Answers
from appliance.serve.express.plain import PlainCalls
from appliance.serve.gate import Gate
from appliance.serve.infer import Inference, Received


class Means(NamedTuple):
    """``inference`` answers what is not small and plain, of requests that ``parse`` makes or refuses (ApplianceError).

    ``threads``: how many of these may run at a time in one lane.
    """

    calls: PlainCalls
    gate: Gate
    answers: Answers
    inference: Inference
    parse: Callable[[bytes], Received]
    threads: int
