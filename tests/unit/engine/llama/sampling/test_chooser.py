"""One choice after the other: what is banned, lifted, masked or broken, over logits that the test made."""

import numpy as np
import pytest

from appliance.calls import GenerateCall
from appliance.engine.llama.sampling.chooser import Chooser, usable
from appliance.engine.llama.sampling.options import SamplingPlan
from appliance.errors import InternalError, InvalidArgument

END, SIZE = 9, 10
GREEDY = SamplingPlan(temperature=0.0)


class Words:
    """A vocabulary of ten tokens, of which the last ends the turn."""

    size = SIZE
    turn_ends = (END,)

    def ends_turn(self, token):
        return token == END

    def piece(self, token):
        return bytes([48 + token])


class Logits:
    """A context whose logits are given."""

    def __init__(self, *values):
        self.values = np.array(values, np.float32)

    def logits(self, index):
        return self.values


class Only:
    """A mask that allows these tokens."""

    complete = False

    def __init__(self, *allowed):
        self.allowed = allowed
        self.accepted = []

    def apply(self, logits):
        banned = np.ones(len(logits), bool)
        banned[list(self.allowed)] = False
        logits[banned] = -np.inf

    def accept(self, token):
        self.accepted.append(token)


RISING = tuple(float(i) for i in range(SIZE))


def chosen(values=RISING, generated=0, mask=None, **options):
    call = GenerateCall(prompt="", **options)
    return Chooser(call, GREEDY, Words(), 100, mask).choose(Logits(*values), 0, generated)


@pytest.mark.parametrize(
    ("options", "generated", "token"),
    [
        ({}, 0, END),
        ({"ignore_eos": True}, 0, 8),
        ({"min_tokens": 3}, 2, 8),
        ({"min_tokens": 3}, 3, END),
        ({"min_tokens": 3, "stop_token_ids": (8,)}, 0, 7),
        ({"min_tokens": 3, "stop_token_ids": (8,)}, 3, END),
        ({"logit_bias": ((END, -5.0),)}, 0, 8),
        ({"logit_bias": ((2, 50.0),)}, 0, 2),
        ({"logit_bias": ((END, 100.0),), "ignore_eos": True}, 0, 8),  # a ban outweighs every bias
    ],
)
def test_greedy_choices(options, generated, token):
    assert chosen(generated=generated, **options)[0] == token


def test_a_mask_outweighs_a_bias_and_sees_what_was_chosen():
    mask = Only(1, 3)
    assert chosen(mask=mask, logit_bias=((5, 100.0), (1, 10.0)))[0] == 1
    assert mask.accepted == [1]


def test_the_end_of_the_turn_is_not_a_token_of_the_grammar():
    mask = Only(END)
    assert chosen(mask=mask)[0] == END
    assert mask.accepted == []


def test_nothing_left_to_choose_is_the_callers_mistake():
    with pytest.raises(InvalidArgument) as caught:
        chosen(mask=Only(END), min_tokens=2)
    assert caught.value.reason == "CONSTRAINT_CONFLICT"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad):
    with pytest.raises(InternalError) as caught:
        chosen((*RISING[:4], bad, *RISING[5:]))
    assert caught.value.reason == "NUMERIC"
    assert not usable(np.array([0.0, bad], np.float32))
    assert not usable(np.array([-np.inf, -np.inf], np.float32))


def test_log_probabilities_are_taken_before_anything_is_changed():
    _, plain = chosen(logprobs=3)
    _, changed = chosen(logprobs=3, mask=Only(0), logit_bias=((4, 100.0),))
    assert changed.top == plain.top
    assert changed.chosen.token == 0
    assert sum(np.exp(t.logprob) for t in chosen(logprobs=SIZE)[1].top) == pytest.approx(1.0)
