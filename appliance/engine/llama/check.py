"""Whether a generation's options make sense for this model; everything that can be said before anything runs."""

import math

import msgspec

from appliance import limits
from appliance.calls import GenerateCall
from appliance.errors import InvalidArgument


class Bounds(msgspec.Struct, frozen=True):
    """What one call may take: tokens of prompt and answer together, new tokens (0: no bound), and the vocabulary."""

    context_tokens: int
    max_tokens: int
    vocab_size: int


def check_options(call: GenerateCall, bounds: Bounds) -> None:
    """Raises InvalidArgument naming the option, its value and what is allowed."""
    if call.max_tokens < 0:
        raise InvalidArgument(f"max_tokens is {call.max_tokens}, allowed: 0 (as many as there is room for) or more")
    if bounds.max_tokens and call.max_tokens > bounds.max_tokens:
        raise InvalidArgument(f"max_tokens is {call.max_tokens:,}, this model allows at most {bounds.max_tokens:,}")
    if not 0 <= call.min_tokens <= (call.max_tokens or bounds.max_tokens or bounds.context_tokens):
        raise InvalidArgument(f"min_tokens is {call.min_tokens:,}, allowed: 0 to max_tokens")
    if not 0 <= call.logprobs <= limits.logprobs_top_max:
        raise InvalidArgument(f"logprobs is {call.logprobs}, allowed: 0 to {limits.logprobs_top_max}")
    if not 1 <= call.n <= limits.choices_max:
        raise InvalidArgument(f"n is {call.n}, allowed: 1 to {limits.choices_max}")
    _check_stops(call)
    _check_tokens(call, bounds.vocab_size)


def _check_stops(call: GenerateCall) -> None:
    if len(call.stop) > limits.stop_strings_max:
        raise InvalidArgument(f"{len(call.stop):,} stop strings, at most {limits.stop_strings_max} are allowed")
    for number, stop in enumerate(call.stop):
        size = len(stop.encode(errors="replace"))
        if not 0 < size <= limits.stop_string_bytes_max:
            raise InvalidArgument(
                f"stop string {number} has {size:,} bytes, allowed: 1 to {limits.stop_string_bytes_max}"
            )


def _check_tokens(call: GenerateCall, vocab_size: int) -> None:
    if len(call.stop_token_ids) > limits.stop_token_ids_max:
        raise InvalidArgument(
            f"{len(call.stop_token_ids):,} stop_token_ids, at most {limits.stop_token_ids_max} are allowed"
        )
    if len(call.logit_bias) > limits.logit_bias_max:
        raise InvalidArgument(
            f"logit_bias of {len(call.logit_bias):,} tokens, at most {limits.logit_bias_max} are allowed"
        )
    for what, token in [
        *(("stop_token_ids", token) for token in call.stop_token_ids),
        *(("logit_bias", token) for token, _ in call.logit_bias),
    ]:
        if not 0 <= token < vocab_size:
            raise InvalidArgument(
                f"{what} has the token id {token}, this model's are 0 to {vocab_size - 1:,}", reason="TOKEN_UNKNOWN"
            )
    for token, bias in call.logit_bias:
        if not math.isfinite(bias) or abs(bias) > limits.logit_bias_abs_max:
            raise InvalidArgument(
                f"logit_bias of token {token} is {bias:g}, allowed: {-limits.logit_bias_abs_max:g} to "
                f"{limits.logit_bias_abs_max:g}"
            )


def most_tokens(asked: int, prompt_tokens: int, bounds: Bounds) -> int:
    """How many tokens the answer may have.

    The last one is never computed, so a prompt that fills the whole context still gets one.
    """
    room = bounds.context_tokens - prompt_tokens + 1
    return min(room, asked or bounds.max_tokens or room)
