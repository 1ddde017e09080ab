"""The planner: pure, so a table says it all."""

import pytest

from appliance.engine.llama.schedule.plan import Share, plan_step


class Waiting:
    def __init__(self, waiting: int, prefilling: bool) -> None:
        self.waiting = waiting
        self.prefilling = prefilling


P, D = (lambda n: Waiting(n, True)), Waiting(1, False)


@pytest.mark.parametrize(
    ("sequences", "budget", "shares"),
    [
        ([], 8, []),
        ([D], 8, [Share(0, 1, True)]),
        ([P(5)], 8, [Share(0, 5, True)]),
        ([P(8)], 8, [Share(0, 8, True)]),
        ([P(9)], 8, [Share(0, 8, False)]),
        ([P(9), D, D], 8, [Share(1, 1, True), Share(2, 1, True), Share(0, 6, False)]),
        ([P(3), P(9)], 8, [Share(0, 3, True), Share(1, 5, False)]),
        ([D, D, D], 2, [Share(0, 1, True), Share(1, 1, True)]),
    ],
)
def test_running_answers_go_first_and_prompts_fill_the_rest(sequences, budget, shares):
    assert plan_step(sequences, budget) == shares
