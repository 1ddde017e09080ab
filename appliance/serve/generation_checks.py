"""Whether a generation is well formed, whichever protocol asked for it: counts, bytes, finite numbers. Pure.

What depends on the model (which tokens there are, whether a grammar compiles) is its engine's to say.
"""

import math

from appliance import limits
from appliance.calls import Constraint, GenerateCall, Sampling
from appliance.errors import InvalidArgument
from appliance.serve import chat_checks
from appliance.serve.validate import quote

# The engine and a client's 32-bit fields have this bound; a larger number in JSON is a mistake.
_INT32_MAX = 2**31 - 1


def check(call: GenerateCall) -> GenerateCall:
    """``call`` itself; raises InvalidArgument that says what is wrong with which of its fields."""
    if call.messages is None:
        check_bytes("the prompt has", call.prompt or "")
    else:
        chat_checks.check(call)
    _check_sampling(call.sampling)
    _check_range("max_tokens", call.max_tokens, 0, _INT32_MAX, "0 is no bound")
    _check_range("logprobs", call.logprobs, 0, limits.logprobs_top_max, "0 is none")
    _check_range("n", call.n, 1, limits.choices_max, "0 is 1, too")
    _check_range("min_tokens", call.min_tokens, 0, _INT32_MAX, "0 is no bound")
    if 0 < call.max_tokens < call.min_tokens:
        raise InvalidArgument(
            f"min_tokens is {call.min_tokens}, more than max_tokens, which is {call.max_tokens}", reason="MIN_TOKENS"
        )
    _check_stop(call.stop)
    _check_stop_tokens(call.stop_token_ids)
    _check_logit_bias(call.logit_bias)
    if len(call.adapter) > limits.adapter_name_chars_max:
        raise InvalidArgument(
            f"the adapter's name has {len(call.adapter)} characters, at most {limits.adapter_name_chars_max} are allowed",
            reason="ADAPTER",
        )
    if call.constraint is not None:
        _check_constraint(call.constraint)
    return call


def check_bytes(what: str, *texts: str) -> None:
    """Raises InvalidArgument when ``texts`` are more, together, than one call may bring; ``what`` ends with a verb."""
    size = sum(len(text.encode()) for text in texts)
    if size > limits.prompt_bytes_max:
        raise InvalidArgument(
            f"{what} {size} bytes, at most {limits.prompt_bytes_max} are allowed", reason="PROMPT_SIZE"
        )


def check_texts(what: str, texts: tuple[str, ...], count_max: int, *more: str) -> None:
    """Raises InvalidArgument for none, too many or too much text; ``more`` counts with them."""
    if not 0 < len(texts) <= count_max:
        raise InvalidArgument(f"{len(texts)} {what} came, from 1 to {count_max} are allowed", reason=what.upper())
    check_bytes(f"the {what} have", *texts, *more)


def _check_range(name: str, value: int, low: int, high: int, remark: str) -> None:
    if not low <= value <= high:
        raise InvalidArgument(f"{name} is {value}, from {low} to {high} is allowed ({remark})", reason=name.upper())


def _check_sampling(sampling: Sampling) -> None:
    for name in Sampling.__struct_fields__:
        value = getattr(sampling, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidArgument(f"{name} is {value}, it must be a finite number", reason=name.upper())


def _check_stop(stop: tuple[str, ...]) -> None:
    if len(stop) > limits.stop_strings_max:
        raise InvalidArgument(
            f"{len(stop)} stop strings came, at most {limits.stop_strings_max} are allowed", reason="STOP"
        )
    for text in stop:
        size = len(text.encode())
        if not 0 < size <= limits.stop_string_bytes_max:
            raise InvalidArgument(
                f"a stop string has {size} bytes, from 1 to {limits.stop_string_bytes_max} are allowed", reason="STOP"
            )


def _check_stop_tokens(tokens: tuple[int, ...]) -> None:
    if len(tokens) > limits.stop_token_ids_max:
        raise InvalidArgument(
            f"{len(tokens)} stop token ids came, at most {limits.stop_token_ids_max} are allowed",
            reason="STOP_TOKEN_IDS",
        )
    for token in tokens:
        if not 0 <= token <= _INT32_MAX:
            raise InvalidArgument(f"stop_token_ids has {token}, which is no token id", reason="STOP_TOKEN_IDS")


def _check_logit_bias(bias: tuple[tuple[int, float], ...]) -> None:
    if len(bias) > limits.logit_bias_max:
        raise InvalidArgument(
            f"logit_bias has {len(bias)} entries, at most {limits.logit_bias_max} are allowed", reason="LOGIT_BIAS"
        )
    for token, value in bias:
        if not 0 <= token <= _INT32_MAX:
            raise InvalidArgument(f"logit_bias has {token}, which is no token id", reason="LOGIT_BIAS")
        # Written so that NaN, which is not less than anything, fails it too.
        if not abs(value) <= limits.logit_bias_abs_max:
            top = limits.logit_bias_abs_max
            raise InvalidArgument(
                f"logit_bias of token {token} is {value:g}, from {-top:g} to {top:g} is allowed", reason="LOGIT_BIAS"
            )


def _check_constraint(constraint: Constraint) -> None:
    if constraint.kind == "choice":
        count = len(constraint.choices)
        if not 0 < count <= limits.constraint_choices_max:
            raise InvalidArgument(
                f"{count} choices came, from 1 to {limits.constraint_choices_max} are allowed",
                reason="CONSTRAINT_SIZE",
            )
    elif constraint.kind != "json" and not constraint.text.strip():
        raise InvalidArgument(f"the constraint {quote(constraint.kind)} is empty", reason="CONSTRAINT_EMPTY")
    size = sum(len(text.encode()) for text in (constraint.text, *constraint.choices))
    if size > limits.constraint_bytes_max:
        raise InvalidArgument(
            f"the constraint has {size} bytes, at most {limits.constraint_bytes_max} are allowed",
            reason="CONSTRAINT_SIZE",
        )
