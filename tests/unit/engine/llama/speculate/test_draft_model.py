"""A draft model over tiny GGUF files: a script is a bigram, so that every token which comes is known."""

import pytest
from tiny_gguf import IM_END, VOCAB, write_tiny_gguf

from appliance import limits
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.speculate.base import Wanted
from appliance.engine.llama.speculate.draft_model import DraftSpeculation
from appliance.errors import FailedPrecondition
from appliance.model_spec import LlamaOptions

SCRIPT = b"abcdefghij"


class Dear:
    """A target whose step costs a lot however many tokens it has: a draft model pays."""

    def predict_ns(self, tokens):
        return 1e12


class Cheap:
    """A target that is faster than any draft."""

    def predict_ns(self, tokens):
        return 1e3 * tokens


@pytest.fixture
def drafting(tmp_path):
    made = []

    def make(tokens=256, batch_tokens=128, sequences=4, common=VOCAB, **model):
        path = write_tiny_gguf(tmp_path / f"draft{len(made)}.gguf", **model)
        draft = LlamaModel(path, LlamaOptions())
        context = Context(draft, tokens=tokens, batch_tokens=batch_tokens, threads=1, sequences=sequences)
        made.append(DraftSpeculation(draft, context, sequences, common))
        return made[-1]

    yield make
    for speculation in made:
        speculation.close()


def wanted(text, key=1, most=4):
    return Wanted(key, list(text), most)


def test_guesses_the_script(drafting):
    speculation = drafting(script=SCRIPT, loop=True)
    assert speculation.propose([wanted(b"xabc")], Dear()) == [list(b"defg")]


def test_many_sequences_are_guessed_for_together(drafting):
    speculation = drafting(script=SCRIPT, loop=True)
    decodes = count_decodes(speculation)
    guesses = speculation.propose([wanted(b"abc", 1), wanted(b"h", 2, 2), wanted(b"e", 3, 3)], Dear())
    assert guesses == [list(b"defg"), list(b"ij"), list(b"fgh")]
    assert decodes == [5, 3, 2, 1]  # tokens of each decode


def count_decodes(speculation):
    sizes, decode = [], speculation._context.decode

    def counted():
        sizes.append(speculation._context.batch.count)
        return decode()

    speculation._context.decode = counted
    return sizes


def test_only_what_is_new_is_computed(drafting):
    speculation = drafting(script=SCRIPT, loop=True)
    one = wanted(b"xyzabc")
    decodes = count_decodes(speculation)
    assert speculation.propose([one], Dear()) == [list(b"defg")]
    speculation.judge(1, 4, 4)
    one.tokens += b"defgh"
    assert speculation.propose([one], Dear()) == [list(b"ijab")]
    speculation.judge(1, 4, 1)
    one.tokens += b"id"  # the second guess was wrong
    assert speculation.propose([one], Dear()) == [list(b"efgh")]
    assert decodes == [6, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1]


def test_no_guess_behind_the_end_of_the_turn(drafting):
    speculation = drafting(script=SCRIPT)
    assert speculation.propose([wanted(b"h", 1, 8)], Dear()) == [list(b"ij")]
    assert speculation.propose([wanted(b"j", 2, 8)], Dear()) == [[]]


def test_a_draft_that_wants_to_end_too_soon_is_wrong(drafting):
    speculation = drafting(script=SCRIPT)
    one = wanted(b"j")
    before = speculation._acceptance.probability(1, 0)
    assert speculation.propose([one], Dear()) == [[]]
    one.tokens += b"j"
    speculation.propose([one], Dear())
    assert speculation._acceptance.probability(1, 0) < before


def test_it_stops_when_guesses_are_wrong_and_tries_again_within_its_share(drafting):
    """Draft steps take 2 ms, the target's 8.4 ms: what is spent on guesses that never come true stays below 2 %."""
    speculation = drafting(script=SCRIPT, loop=True, tokens=2048, context=2048)
    clock = speculation._now_ns = Ticks(step_ns=2_000_000)
    speculation.measure()
    cost, one, first, drafts, spent = Line(), wanted(b"a"), 0, 0, 0.0
    for step in range(1500):
        clock.sum_ns = 0
        guesses = speculation.propose([one], cost)[0]
        if guesses:
            speculation.judge(1, len(guesses), 0)
        first = first or len(guesses)
        if step >= 100:
            drafts += bool(guesses)
            spent += clock.sum_ns + cost.predict_ns(1 + len(guesses)) - cost.predict_ns(1)
        one.tokens.append(SCRIPT[step * 7 % 10])
    assert first > 0
    assert drafts > 5
    assert spent < 0.02 * cost.predict_ns(1) * 1400


class Ticks:
    """A clock on which every second reading (the end of a decode) is one step later."""

    def __init__(self, step_ns):
        self.now, self.step_ns, self.sum_ns, self.reads = 0, step_ns, 0, 0

    def __call__(self):
        self.reads += 1
        if self.reads % 2 == 0:
            self.now += self.step_ns
            self.sum_ns += self.step_ns
        return self.now


class Line:
    def predict_ns(self, tokens):
        return 1e6 * (3.6 + 4.8 * tokens)


def test_nothing_is_guessed_where_the_draft_costs_more_than_it_brings(drafting):
    speculation = drafting(script=SCRIPT, loop=True)
    decodes = count_decodes(speculation)
    assert speculation.propose([wanted(b"abc")], Cheap()) == [[]]
    assert decodes == []


def test_a_long_prompt_is_caught_up_with_in_pieces_while_others_are_guessed_for(drafting):
    speculation = drafting(script=SCRIPT, loop=True, batch_tokens=16, context=256)
    long, short = wanted(b"abcdefghij" * 4, 1), wanted(b"abc", 2)
    decodes = count_decodes(speculation)
    got = []
    for _ in range(4):
        got.append(speculation.propose([long, short], Dear()))
        short.tokens += bytes([*got[-1][1], SCRIPT[(SCRIPT.index(bytes([got[-1][1][-1]])) + 1) % 10]])
    assert [bool(guesses[0]) for guesses in got] == [False, False, True, True]
    assert all(guesses[1] for guesses in got)
    assert got[2][0] == list(b"abcd")
    assert max(decodes) <= 16


def test_who_finds_no_room_is_not_guessed_for(drafting):
    speculation = drafting(script=SCRIPT, loop=True, tokens=256, context=256)
    first, second = wanted(b"abcdefghij" * 12, 1), wanted(b"abcdefghij" * 15, 2)
    for _ in range(4):
        guesses = speculation.propose([first, second], Dear())
    assert guesses == [list(b"abcd"), []]
    # The first is not wanted any more: its room is the second's.
    for _ in range(3):
        guesses = speculation.propose([second], Dear())
    assert guesses == [list(b"abcd")]


def test_more_sequences_than_ids(drafting):
    speculation = drafting(script=SCRIPT, loop=True, sequences=2)
    guesses = speculation.propose([wanted(b"abc", key) for key in range(5)], Dear())
    assert sorted(map(len, guesses)) == [0, 0, 0, 4, 4]


def test_forgetting_frees_and_the_number_may_come_again(drafting):
    speculation = drafting(script=SCRIPT, loop=True, sequences=1)
    assert speculation.propose([wanted(b"abc", 1)], Dear()) == [list(b"defg")]
    speculation.forget(1)
    speculation.forget(1)
    assert speculation._cache.used == 0
    assert speculation.propose([wanted(b"cde", 1)], Dear()) == [list(b"fghi")]


def test_a_token_that_the_draft_model_does_not_have(drafting):
    speculation = drafting(script=SCRIPT, loop=True)
    for _ in range(2):
        guesses = speculation.propose([Wanted(1, [97, VOCAB, 98], 4), wanted(b"c", 2)], Dear())
        assert guesses[0] == []
    assert speculation.propose([wanted(b"d", 3)], Dear()) == [list(b"efgh")]


def test_tokens_that_only_the_draft_model_has_are_never_guessed(drafting):
    speculation = drafting(script=bytes([*range(80, 90)]), loop=True, common=85)
    assert max(speculation.propose([Wanted(1, [82], 8)], Dear())[0]) < 85


def test_a_decode_that_fails_costs_only_the_guesses(drafting):
    speculation = drafting(script=SCRIPT, loop=True)
    decode = speculation._context.decode
    one = wanted(b"abc")
    speculation._context.decode = lambda: Decoded.FAILED
    assert speculation.propose([one], Dear()) == [[]]
    speculation._context.decode = decode
    assert speculation.propose([one], Dear()) == [list(b"defg")]
    speculation._context.decode = lambda: Decoded.FAILED
    for _ in range(3):
        assert speculation.propose([one], Dear()) == [[]]
    speculation._context.decode = decode
    assert speculation.propose([one], Dear()) == [[]]  # it has failed too often


def test_a_draft_model_that_cannot_compute_is_refused(drafting):
    speculation = drafting(script=SCRIPT, loop=True)
    speculation._context.decode = lambda: Decoded.INVALID
    with pytest.raises(FailedPrecondition):
        speculation.measure()


def test_nobody_wants_anything(drafting):
    speculation = drafting(script=SCRIPT)
    assert speculation.propose([], Dear()) == []
    assert speculation.propose([wanted(b"abc", 1, 0)], Dear()) == [[]]


def test_the_guesses_of_one_sequence_are_bounded(drafting):
    speculation = drafting(script=SCRIPT, loop=True)
    assert len(speculation.propose([wanted(b"a", 1, 1000)], Dear())[0]) <= limits.speculation_guesses_max


def test_the_end_of_a_turn_is_no_guess_of_the_tiny_model():
    assert IM_END < VOCAB  # what the tests above rely on: the end is a token that could be guessed
