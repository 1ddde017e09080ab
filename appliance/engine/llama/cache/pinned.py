"""From model.toml's pinned prefixes to the token ids with which the prompts that begin so will begin."""

from collections.abc import Callable, Sequence
from typing import Protocol

from appliance.calls import ChatMessage, GenerateCall
from appliance.engine.llama.cache.nodes import common_prefix
from appliance.errors import ApplianceError, FailedPrecondition
from appliance.model_spec import PinnedPrefix

# Two turns with nothing in common: what their prompts share is the template's beginning and the system message.
_TURNS = ("Hello", "7")


class Built(Protocol):
    """A prompt, as chat/prompt.py builds it."""

    @property
    def tokens(self) -> list[int]:
        """Its token ids."""
        ...


Build = Callable[[GenerateCall], Built]


def pinned_tokens(pinned: Sequence[PinnedPrefix], build: Build, context_tokens: int) -> list[list[int]]:
    """The token ids of each pinned prefix, without repetitions.

    Raises FailedPrecondition (PINNED_PREFIX) when the model's template cannot make a prompt that begins so, or when
    nothing more fits into a context of ``context_tokens`` behind it.
    """
    found: list[list[int]] = []
    for index, prefix in enumerate(pinned):
        where = f"llama.pinned[{index}] of model.toml"
        try:
            tokens = _system(prefix.system, build, where) if prefix.system else _prompt(prefix.prompt, build)
        except ApplianceError as error:
            if error.reason == "CONTEXT_OVERFLOW":
                raise _too_long(where, context_tokens) from error
            if error.reason == "PINNED_PREFIX":
                raise
            raise _refused(where, f"cannot be made into a prompt: {error.message}") from error
        if len(tokens) >= context_tokens:
            raise _too_long(where, context_tokens)
        if tokens not in found:
            found.append(tokens)
    return found


def _prompt(text: str, build: Build) -> list[int]:
    return list(build(GenerateCall(prompt=text)).tokens)


def _system(text: str, build: Build, where: str) -> list[int]:
    one, other = (_conversation(text, turn, build) for turn in _TURNS)
    if one == _conversation(f"{text} 7", _TURNS[0], build):
        raise _refused(
            where,
            "has no effect: the model's chat template leaves system messages out; pin a prompt, or name a template "
            "that knows system messages with llama.chat_template",
        )
    return one[: common_prefix(one, other)]


def _conversation(system: str, user: str, build: Build) -> list[int]:
    messages = (ChatMessage("system", system), ChatMessage("user", user))
    return list(build(GenerateCall(messages=messages)).tokens)


def _refused(where: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(f"{where} {what}", reason="PINNED_PREFIX")


def _too_long(where: str, context_tokens: int) -> FailedPrecondition:
    return _refused(
        where,
        f"leaves no room in the context of {context_tokens:,} tokens: shorten it, or raise llama.context_tokens",
    )
