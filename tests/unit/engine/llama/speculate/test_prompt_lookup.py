"""Prompt look-up, and by simulation that it pays where text repeats itself and costs next to nothing where it doesn't."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.engine.llama.speculate.base import Wanted
from appliance.engine.llama.speculate.lookup import LookupSpeculation


class Cpu:
    """Two cores, SmolLM2-135M Q4_1: 8.4 ms for one token, 80 ms for 16."""

    def predict_ns(self, tokens):
        return 1e6 * (3.6 + 4.8 * tokens)


class Flat:
    """More tokens cost nothing: every guess is made."""

    def predict_ns(self, tokens):
        return 1e6


class Simulation:
    """Texts that are known in advance are decoded with guesses; time is what the cost function says."""

    def __init__(self, texts, prompt, speculation, cost):
        self.texts, self.cost, self.speculation = texts, cost, speculation
        self.live = {key: text[: prompt + 1] for key, text in enumerate(texts)}
        self.ns = self.drafted = self.accepted = self.steps = 0

    def run(self):
        while self.live:
            self.step()
        return self

    def step(self):
        wanted = [Wanted(key, tokens, 16) for key, tokens in self.live.items()]
        guesses = self.speculation.propose(wanted, self.cost)
        self.ns += self.cost.predict_ns(len(wanted) + sum(map(len, guesses)))
        self.steps += 1
        for one, guess in zip(wanted, guesses, strict=True):
            self._verify(one, guess)

    def _verify(self, one, guess):
        text, end = self.texts[one.key], len(one.tokens)
        right = 0
        while right < len(guess) and end + right < len(text) and guess[right] == text[end + right]:
            right += 1
        self.speculation.judge(one.key, len(guess), right)
        self.drafted += len(guess)
        self.accepted += right
        one.tokens.extend(text[end : end + right + 1])
        if len(one.tokens) >= len(text):
            del self.live[one.key]
            self.speculation.forget(one.key)

    def plain_ns(self, prompt):
        left = [len(text) - prompt - 1 for text in self.texts]
        return sum(self.cost.predict_ns(sum(n > step for n in left)) for step in range(max(left)))


def speedup(texts, prompt):
    simulation = Simulation(texts, prompt, LookupSpeculation(), Cpu()).run()
    return simulation.plain_ns(prompt) / simulation.ns


def noise(seed, size, length):
    rng = random.Random(seed)
    return [rng.randrange(size) for _ in range(length)]


def prose(seed, length):
    """Text as a language model makes it: pairs recur, and what follows them is right now and then, never for long."""
    rng, text = random.Random(seed), noise(seed, 50, 100)
    while len(text) < length:
        start = rng.randrange(len(text) - 4)
        text += [*text[start : start + rng.choice((1, 2, 2, 3, 4))], rng.randrange(50)]
    return text[:length]


def copy(seed, length):
    """A prompt of 400 tokens that the answer repeats, now and then with a change."""
    rng, source = random.Random(seed), noise(seed, 2000, 400)
    answer = [rng.randrange(2000) if rng.random() < 0.02 else token for token in source * (length // 400)]
    return source + answer


def loop(seed, length):
    """An answer that has run into a loop."""
    return noise(seed, 2000, 120) + (noise(seed + 1, 2000, 37) * length)[:length]


@pytest.mark.parametrize("sequences", [1, 4, 8, 16])
@pytest.mark.parametrize("size", [2, 10, 50, 400, 49_152])
def test_random_text_costs_at_most_two_percent(size, sequences):
    assert speedup([noise(seed, size, 600) for seed in range(sequences)], 100) > 1 / 1.02


@pytest.mark.parametrize("sequences", [1, 2, 4, 8, 16])
def test_prose_costs_at_most_two_percent(sequences):
    assert speedup([prose(seed, 600) for seed in range(sequences)], 100) > 1 / 1.02


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [copy, loop])
def test_repetitive_text_is_faster_by_a_third_for_one(make, seed):
    assert speedup([make(seed, 400)], 120 if make is loop else 400) > 1.3


@pytest.mark.parametrize("sequences", [2, 4, 8, 16])
def test_repetitive_text_of_many_is_never_slower(sequences):
    assert speedup([copy(seed, 400) for seed in range(sequences)], 400) > 1 / 1.02


def test_a_text_that_begins_to_repeat_itself_is_noticed_and_one_that_stops_too():
    text = noise(1, 2000, 300) + noise(2, 2000, 40) * 10 + noise(3, 2000, 300)
    simulation = Simulation([text], 10, LookupSpeculation(), Cpu()).run()
    assert simulation.accepted > 200
    assert simulation.drafted - simulation.accepted < 20


# --- what it proposes ------------------------------------------------------------------------------------------------


def settled(tokens, **options):
    """What is proposed for ``tokens`` by one who has seen much repetition, where guesses cost nothing."""
    speculation = LookupSpeculation(**options)
    return speculation.propose([Wanted(1, tokens, 8)], Flat())[0]


@pytest.mark.parametrize(
    ("tokens", "guess"),
    [
        ([1, 2, 3, 4, 5, 6, 1, 2, 3], [4, 5, 6, 1, 2, 3, 4, 5]),
        ([1, 2, 3], []),
        ([], []),
        ([4], []),
        ([7, 7, 7, 7], [7, 7, 7, 7, 7, 7, 7, 7]),
    ],
)
def test_proposes_what_followed(tokens, guess):
    assert settled(tokens)[: len(guess)] == guess[: len(settled(tokens))]
    assert bool(settled(tokens)) == bool(guess)


def test_guesses_stop_before_the_end_of_a_turn():
    tokens = [1, 2, 3, 4, 5, 99, 6, 1, 2, 3]
    assert settled(tokens)[:3] == [4, 5, 99]
    assert settled(tokens, ends=frozenset({99})) == [4, 5]
    assert settled(tokens, ends=frozenset({4})) == []


@given(st.lists(st.integers(0, 3), max_size=80), st.integers(0, 20))
def test_what_is_proposed_followed_an_earlier_occurrence(tokens, most):
    guess = LookupSpeculation().propose([Wanted(1, tokens, most)], Flat())[0]
    assert len(guess) <= min(most, limits.speculation_guesses_max)
    if guess:
        after = [p for p in range(2, len(tokens)) if tokens[p - 2 : p] == tokens[-2:]]
        whole = tokens + guess
        assert any(whole[p : p + len(guess)] == guess for p in after)


def test_most_is_kept_and_none_is_allowed():
    tokens = [1, 2, 3, 4, 5, 6, 7, 8] * 5
    speculation = LookupSpeculation()
    wanted = [Wanted(1, tokens, 0), Wanted(2, list(tokens), 3)]
    for _ in range(20):
        guesses = speculation.propose(wanted, Flat())
        assert guesses[0] == []
        assert len(guesses[1]) == 3
        for one in wanted:
            one.tokens.append(one.tokens[-8])


def test_what_was_never_computed_is_learned_from_too():
    """Pairs in this text go on the same way always, but the prior says no: after some steps they are guessed."""
    text = [token for n in range(60) for token in (n % 7 + 100, 1, 2, 3, n + 1000)]
    simulation = Simulation([text], 10, LookupSpeculation(), Cpu()).run()
    assert simulation.accepted > 15


def test_a_number_that_comes_again_is_a_new_sequence():
    speculation = LookupSpeculation()
    speculation.propose([Wanted(1, [1, 2, 3, 1, 2], 4)], Flat())
    speculation.forget(1)
    assert speculation.propose([Wanted(1, [5, 6, 7, 8, 1, 2], 4)], Flat()) == [[]]
    speculation.forget(1)
    speculation.forget(1)
    speculation.close()


def test_a_long_prompt_is_guessed_for_when_it_is_known():
    tokens = [*range(limits.lookup_step_tokens_max + 1), 5, 6]
    speculation = LookupSpeculation()
    assert speculation.propose([Wanted(1, tokens, 4)], Flat()) == [[]]
    assert speculation.propose([Wanted(1, tokens, 4)], Flat())[0][:1] == [7]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "lookup_tokens_max", 100)
    speculation = LookupSpeculation()
    texts = [[*range(80), 1, 2] for _ in range(3)]
    wanted = [Wanted(key, text, 4) for key, text in enumerate(texts)]
    assert [bool(g) for g in speculation.propose(wanted, Flat())] == [True, True, False]
    speculation.forget(0)
    assert [bool(g) for g in speculation.propose(wanted[1:], Flat())] == [True, True]


def test_nobody_wants_anything():
    assert LookupSpeculation().propose([], Flat(), others=3) == []


def test_a_call_takes_a_moment():
    speculation = LookupSpeculation()
    wanted = [Wanted(key, copy(key, 400), 16) for key in range(16)]
    speculation.propose(wanted, Cpu())
    times = []
    for _ in range(20):
        for one in wanted:
            one.tokens.append(one.tokens[-400])
        began = time.perf_counter()
        speculation.propose(wanted, Cpu())
        times.append(time.perf_counter() - began)
    assert min(times) < 0.002  # 0.15 ms on two quiet cores
