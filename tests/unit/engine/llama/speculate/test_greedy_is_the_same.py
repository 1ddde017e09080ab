"""Greedy with guesses gives the very tokens of greedy without: a small reference of what the engine does with guesses.

Floating point depends a little on what else is in a batch, with guesses or without. Measured over these models: the same
logit differs by up to 0.004. So texts are compared up to the first token whose two best logits are closer than TIE.
"""

import numpy as np
import pytest
from tiny_gguf import write_tiny_gguf

from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.speculate.base import Speculation, Wanted
from appliance.engine.llama.speculate.draft_model import DraftSpeculation
from appliance.engine.llama.speculate.lookup import LookupSpeculation
from appliance.model_spec import LlamaOptions

TOKENS = 90
CONTEXT = 512
# Rows of logits that one decode gives are as many as sequences: llama.cpp reserves them so.
ROWS = 64
TIE = 0.01


class Flat:
    """Every guess is worth it: the most is guessed."""

    def predict_ns(self, tokens):
        return 1e12


class Wrong(Speculation):
    """Guesses that are nearly always wrong, now and then after some right ones."""

    def __init__(self, answers):
        self.answers, self.turn = answers, 0

    def propose(self, wanted, cost, others=0):
        self.turn += 1
        guesses = []
        for one in wanted:
            right = self.answers[one.key][len(one.tokens) :][: self.turn % 3]
            guesses.append([*right, (self.turn * 37) % 256, 5][: one.most])
        return guesses

    def judge(self, key, drafted, accepted):
        pass

    def forget(self, key):
        pass

    def close(self):
        pass


class Loop:
    """Greedy decoding of several sequences in one batch a step, each with its guesses behind its last token."""

    def __init__(self, model, prompts, speculation=None):
        self.context = Context(model, tokens=CONTEXT, batch_tokens=256, threads=1, sequences=ROWS)
        self.texts = [list(prompt) for prompt in prompts]
        self.computed = [0] * len(prompts)
        self.ends = [len(prompt) + TOKENS for prompt in prompts]
        self.speculation = speculation
        self.gaps = [[] for _ in prompts]
        self.steps = self.drafted = self.accepted = 0

    def run(self):
        while any(len(text) < end for text, end in zip(self.texts, self.ends, strict=True)):
            self.step()
        self.context.close()
        return self.texts

    def guesses(self, live):
        if not self.speculation or not self.steps:
            return {key: [] for key in live}
        wanted = [Wanted(key, self.texts[key], min(8, self.ends[key] - len(self.texts[key]) - 1)) for key in live]
        return dict(zip(live, self.speculation.propose(wanted, Flat()), strict=True))

    def step(self):
        live = [key for key, text in enumerate(self.texts) if len(text) < self.ends[key]]
        guesses = self.guesses(live)
        batch, places = self.context.batch, {}
        batch.clear()
        for key in live:
            start = self.computed[key]
            prompt = self.texts[key][start:-1]
            if prompt:
                batch.add(prompt, start, key, output_last=False)
            run = [self.texts[key][-1], *guesses[key]]
            last = batch.add(run, start + len(prompt), key, output_last=True, output_all=True)
            places[key] = range(last - len(run) + 1, last + 1)
        assert self.context.decode() is Decoded.DONE
        self.steps += 1
        for key in live:
            self.verify(key, guesses[key], places[key])

    def verify(self, key, guess, places):
        text, accepted = self.texts[key], 0
        self.computed[key] = len(text)
        for place in places:
            logits = self.context.logits(place)
            token = int(logits.argmax())
            second, first = np.partition(logits, -2)[-2:]
            self.gaps[key].append(float(first - second))
            text.append(token)
            if accepted == len(guess) or guess[accepted] != token:
                break
            accepted += 1
        self.computed[key] += accepted
        self.context.cut(key, self.computed[key])
        self.drafted += len(guess)
        self.accepted += accepted
        if self.speculation and guess:
            self.speculation.judge(key, len(guess), accepted)


def assert_same(guessing, plain):
    """Both gave the same tokens wherever rounding cannot decide; and that is most of them."""
    compared = 0
    for text, expected, gaps in zip(guessing.run(), plain.texts, plain.gaps, strict=True):
        sure = next((place for place, gap in enumerate(gaps) if gap < TIE), TOKENS)
        end = len(expected) - TOKENS + sure
        assert len(text) == len(expected)
        assert text[:end] == expected[:end]
        compared += sure
    return compared


PROMPTS = [b"the quick brown fox the quick", b"abcabcabcabc", b"z", b"0123456789" * 3]


@pytest.fixture
def model_of(tmp_path):
    made = []

    def make(seed=7, **options):
        path = write_tiny_gguf(tmp_path / f"model{len(made)}.gguf", seed=seed, context=CONTEXT, **options)
        made.append(LlamaModel(path, LlamaOptions()))
        return made[-1]

    yield make
    for model in made:
        model.close()


def draft_of(tmp_path, seed):
    path = write_tiny_gguf(tmp_path / "draft.gguf", seed=seed, context=CONTEXT)
    draft = LlamaModel(path, LlamaOptions())
    context = Context(draft, tokens=CONTEXT, batch_tokens=128, threads=1, sequences=8)
    return DraftSpeculation(draft, context, 8, draft.vocab.size)


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS[1:2], PROMPTS])
def test_look_up_changes_no_token(model_of, prompts):
    """Over weights of which some run into loops and others never repeat themselves: right and wrong guesses."""
    drafted = accepted = compared = 0
    seeds = (0, 3, 7, 14, 16, 21)
    for seed in seeds:
        plain = Loop(model_of(seed), prompts)
        guessing = Loop(model_of(seed), prompts, LookupSpeculation())
        plain.run()
        compared += assert_same(guessing, plain)
        drafted, accepted = drafted + guessing.drafted, accepted + guessing.accepted
    assert 0 < accepted < drafted
    assert compared > len(seeds) * len(prompts) * TOKENS / 3


def test_an_answer_in_a_loop_takes_fewer_steps(model_of):
    model = model_of(script=b"abcdefghij", loop=True)
    plain = Loop(model, [b"abc", b"h"])
    guessing = Loop(model, [b"abc", b"h"], LookupSpeculation())
    plain.run()
    assert assert_same(guessing, plain) == 2 * TOKENS
    assert guessing.accepted > TOKENS
    assert guessing.steps < plain.steps / 2


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS])
def test_wrong_guesses_change_no_token(model_of, seed, prompts):
    plain = Loop(model_of(seed), prompts)
    guessing = Loop(model_of(seed), prompts, Wrong(plain.run()))
    assert assert_same(guessing, plain) > len(prompts) * TOKENS / 4
    assert 0 < guessing.accepted < guessing.drafted


@pytest.mark.parametrize(("seed", "right"), [(3, True), (4, False)])
def test_a_draft_model_changes_no_token(model_of, tmp_path, seed, right):
    """The same weights guess (nearly) all, others hardly any."""
    speculation = draft_of(tmp_path, seed)
    plain = Loop(model_of(3), PROMPTS)
    guessing = Loop(model_of(3), PROMPTS, speculation)
    plain.run()
    assert assert_same(guessing, plain) > len(PROMPTS) * TOKENS / 4
    assert guessing.drafted > 0
    share = guessing.accepted / guessing.drafted
    assert share > 0.95 if right else share < 0.3
    speculation.close()
