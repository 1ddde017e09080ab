"""Pinned prefixes: from a system message or a bare prompt to the token ids that later prompts begin with."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.calls import GenerateCall
from appliance.engine.llama.cache.pinned import pinned_tokens
from appliance.errors import FailedPrecondition, InvalidArgument
from appliance.model_spec import PinnedPrefix

CONTEXT = 64


class Built(msgspec.Struct):
    tokens: list[int]


def chatml(system: str, user: str) -> str:
    return f"<system>{system}<user>{user}<assistant>"


def builder(template: Callable[[str, str], str] = chatml) -> Callable[[GenerateCall], Built]:
    """A prompt builder over characters instead of tokens, with the real one's errors."""

    def build(call: GenerateCall) -> Built:
        if call.messages is None:
            text = call.prompt or ""
        else:
            assert [m.role for m in call.messages] == ["system", "user"]
            text = template(*(m.content for m in call.messages))
        if not text:
            raise InvalidArgument("the prompt is empty", reason="PROMPT_EMPTY")
        if len(text) > CONTEXT:
            raise InvalidArgument("too long", reason="CONTEXT_OVERFLOW")
        return Built([ord(c) for c in text])

    return build


def text(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


def test_a_system_message_ends_where_the_user_begins() -> None:
    (tokens,) = pinned_tokens([PinnedPrefix(system="Be brief.")], builder(), CONTEXT)
    assert text(tokens) == "<system>Be brief.<user>"


def test_a_bare_prompt_is_taken_as_it_is() -> None:
    (tokens,) = pinned_tokens([PinnedPrefix(prompt="Once upon")], builder(), CONTEXT)
    assert text(tokens) == "Once upon"


def test_each_prefix_once_in_the_order_of_the_file() -> None:
    pinned = [PinnedPrefix(prompt="b"), PinnedPrefix(prompt="a"), PinnedPrefix(prompt="b"), PinnedPrefix(system="s")]
    assert [text(t) for t in pinned_tokens(pinned, builder(), CONTEXT)] == ["b", "a", "<system>s<user>"]


def test_no_pinned_prefixes() -> None:
    assert pinned_tokens([], builder(), CONTEXT) == []


def refuses_system(_system: str, _user: str) -> str:
    raise InvalidArgument("the model's chat template refuses these messages", reason="CHAT_TEMPLATE_REFUSED")


def has_no_template(_system: str, _user: str) -> str:
    raise FailedPrecondition("the model has no chat template; use Generate", reason="NO_CHAT_TEMPLATE")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (refuses_system, "chat template refuses these messages"),
        (has_no_template, "no chat template"),
        (lambda _system, user: f"<user>{user}<assistant>", "leaves system messages out"),
        (lambda system, user: f"<system>{system}{'.' * CONTEXT}<user>{user}", "leaves no room in the context of 64"),
    ],
)
def test_a_template_that_cannot(template: Callable[[str, str], str], says: str) -> None:
    pinned = [PinnedPrefix(prompt="fine"), PinnedPrefix(system="Be brief.")]
    with pytest.raises(FailedPrecondition, match=says) as caught:
        pinned_tokens(pinned, builder(template), CONTEXT)
    assert caught.value.reason == "PINNED_PREFIX"
    assert caught.value.message.startswith("llama.pinned[1] of model.toml ")


@pytest.mark.parametrize(("length", "fits"), [(CONTEXT - 1, True), (CONTEXT, False), (CONTEXT + 1, False)])
def test_one_more_token_must_fit(length: int, fits: bool) -> None:
    pinned = [PinnedPrefix(prompt="x" * length)]
    if fits:
        assert len(pinned_tokens(pinned, builder(), CONTEXT)[0]) == length
    else:
        with pytest.raises(FailedPrecondition, match=r"shorten it, or raise llama\.context_tokens"):
            pinned_tokens(pinned, builder(), CONTEXT)


@given(system=st.text(min_size=1, max_size=12), user=st.text(min_size=1, max_size=12))
def test_every_conversation_with_that_system_message_begins_so(system: str, user: str) -> None:
    (tokens,) = pinned_tokens([PinnedPrefix(system=system)], builder(), CONTEXT)
    assert chatml(system, user).startswith(text(tokens))
    assert text(tokens).startswith(f"<system>{system}")
