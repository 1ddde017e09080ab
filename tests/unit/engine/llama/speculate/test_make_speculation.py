"""Which way of guessing model.toml gets, and that a draft model that does not fit is refused."""

import logging

import pytest
import tiny_gguf
from tiny_gguf import write_tiny_gguf

from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.speculate import make
from appliance.engine.llama.speculate.base import Wanted
from appliance.engine.llama.speculate.draft_model import DraftSpeculation
from appliance.engine.llama.speculate.lookup import LookupSpeculation
from appliance.engine.llama.speculate.make import check_vocabulary, make_speculation
from appliance.errors import InvalidArgument
from appliance.model_spec import Card, LlamaOptions, ModelFile, ModelSpec

SCRIPT = b"abcdefghij"


class Flat:
    def predict_ns(self, tokens):
        return 1e12


@pytest.fixture
def model(tmp_path):
    model = LlamaModel(write_tiny_gguf(tmp_path / "model.gguf", script=SCRIPT, loop=True), LlamaOptions())
    yield model
    model.close()


def make_for(model, tmp_path, *drafts, **options):
    card = Card(licence="Apache-2.0", source="made by the tests", intended_use="tests", limits="none")
    files = (ModelFile(path="model.gguf"), *(ModelFile(path=name, role="draft") for name in drafts))
    spec = ModelSpec(
        name="tiny", version="1.0.0", engine="llama", files=files, card=card, llama=LlamaOptions(**options)
    )
    return make_speculation(spec, tmp_path, model, tokens=128, threads=1)


@pytest.mark.parametrize(
    ("options", "with_draft", "kind"),
    [
        ({}, False, LookupSpeculation),
        ({}, True, DraftSpeculation),
        ({"speculation": "lookup"}, True, LookupSpeculation),
        ({"speculation": "draft"}, True, DraftSpeculation),
        ({"speculation": "off"}, True, type(None)),
        ({"deterministic": True}, False, type(None)),
        ({"deterministic": True, "speculation": "draft"}, True, type(None)),
    ],
)
def test_what_is_made(model, tmp_path, options, with_draft, kind):
    write_tiny_gguf(tmp_path / "draft.gguf", script=SCRIPT, loop=True)
    speculation = make_for(model, tmp_path, *(["draft.gguf"] if with_draft else []), **options)
    assert type(speculation) is kind
    if speculation:
        speculation.propose([Wanted(1, list(b"abcab"), 4)], Flat())
        speculation.close()


@pytest.mark.parametrize(("script", "accepted"), [(SCRIPT, 4), (b"acegibdfhj", 0)])
def test_a_draft_of_the_same_script_guesses_all_and_of_another_nothing(model, tmp_path, script, accepted):
    write_tiny_gguf(tmp_path / "draft.gguf", script=script, loop=True, seed=8)
    speculation = make_for(model, tmp_path, "draft.gguf")
    guess = speculation.propose([Wanted(1, list(b"abc"), 4)], Flat())[0]
    assert len(guess) == 4
    assert sum(a == b for a, b in zip(guess, b"defg", strict=True)) == accepted
    speculation.close()


def test_guesses_of_look_up_stop_before_the_end_of_a_turn(model, tmp_path):
    speculation = make_for(model, tmp_path)
    tokens = [*b"abcd", tiny_gguf.IM_END, *b"xabcd"]
    assert speculation.propose([Wanted(1, tokens, 4)], Flat()) == [[]]
    tokens = [*b"abcdef", tiny_gguf.IM_END, *b"xabcd"]
    assert speculation.propose([Wanted(2, tokens, 4)], Flat()) == [list(b"ef")]


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ("other text", "DRAFT_VOCABULARY", "token 65 is 'ZZZ', the model's 'A'"),
        ("far larger", "DRAFT_VOCABULARY", "it has 463 tokens, the model 263"),
    ],
)
def test_another_vocabulary_is_refused(model, tmp_path, monkeypatch, change, reason, says):
    specials = tiny_gguf.SPECIALS
    if change == "other text":
        characters = tiny_gguf.byte_characters()
        characters[65] = "ZZZ"
        monkeypatch.setattr(tiny_gguf, "byte_characters", lambda: characters)
    else:
        specials = [*specials, *(f"<|more{n}|>" for n in range(200))]
    larger(monkeypatch, specials)
    write_tiny_gguf(tmp_path / "draft.gguf")
    with pytest.raises(InvalidArgument) as caught:
        make_for(model, tmp_path, "draft.gguf")
    assert caught.value.reason == reason
    assert says in caught.value.message


def larger(monkeypatch, specials):
    monkeypatch.setattr(tiny_gguf, "SPECIALS", specials)
    monkeypatch.setattr(tiny_gguf, "VOCAB", tiny_gguf.FIRST_SPECIAL + len(specials))


def test_a_vocabulary_that_is_only_padded_is_the_same(model, tmp_path, monkeypatch):
    larger(monkeypatch, [*tiny_gguf.SPECIALS, *(f"<|pad{n}|>" for n in range(50))])
    draft = LlamaModel(write_tiny_gguf(tmp_path / "draft.gguf"), LlamaOptions())
    assert check_vocabulary(model, draft) == model.vocab.size
    assert check_vocabulary(draft, model) == model.vocab.size
    draft.close()


@pytest.mark.parametrize(
    ("drafts", "says"),
    [
        ([], 'lists no file with role "draft"'),
        (["gone.gguf"], "is missing"),
        (["../draft.gguf"], "leads out of the model's folder"),
        (["a.gguf", "b.gguf"], "at most one"),
    ],
)
def test_a_draft_that_is_not_there(model, tmp_path, drafts, says):
    with pytest.raises(InvalidArgument) as caught:
        make_for(model, tmp_path, *drafts, speculation="draft")
    assert caught.value.reason == "MODEL_FILE"
    assert says in caught.value.message


def test_a_draft_that_is_no_model(model, tmp_path):
    (tmp_path / "draft.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(InvalidArgument) as caught:
        make_for(model, tmp_path, "draft.gguf")
    assert caught.value.reason == "MODEL_CORRUPT"


def test_models_that_keep_one_state_are_not_guessed_for_and_do_not_guess(model, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    write_tiny_gguf(tmp_path / "draft.gguf")
    monkeypatch.setattr(make.C, "llama_model_is_recurrent", lambda handle: handle == model.handle)
    assert make_for(model, tmp_path, "draft.gguf") is None
    assert "cannot take a token back" in caplog.text
    monkeypatch.setattr(make.C, "llama_model_is_recurrent", lambda handle: handle != model.handle)
    with pytest.raises(InvalidArgument) as caught:
        make_for(model, tmp_path, "draft.gguf")
    assert caught.value.reason == "DRAFT_MODEL"
