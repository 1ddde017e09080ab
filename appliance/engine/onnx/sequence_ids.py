"""What a call says of the sequence that it belongs to: the parameters sequence_id, sequence_start and sequence_end."""

from appliance import limits
from appliance.calls import InferCall
from appliance.errors import InvalidArgument


def identity_of(call: InferCall) -> tuple[int | str, bool, bool] | None:
    """(id, starts, ends) of a call's parameters; None without an id: absent, 0 and "", as in Triton.

    Raises InvalidArgument SEQUENCE for values of another type, too long ones, and a start or end without an id.
    """
    get = call.parameters.get
    identity, starts, ends = get("sequence_id", 0), get("sequence_start", False), get("sequence_end", False)
    if isinstance(identity, bool) or not isinstance(identity, (int, str)):
        raise InvalidArgument("parameter 'sequence_id' must be an integer or a string", reason="SEQUENCE")
    if not isinstance(starts, bool) or not isinstance(ends, bool):
        raise InvalidArgument("parameters 'sequence_start' and 'sequence_end' must be bools", reason="SEQUENCE")
    if not identity:
        if starts or ends:
            raise InvalidArgument(
                f"'{'sequence_start' if starts else 'sequence_end'}' needs a sequence_id that is neither 0 nor empty",
                reason="SEQUENCE",
            )
        return None
    if isinstance(identity, str) and len(identity) > limits.sequence_id_chars_max:
        raise InvalidArgument(
            f"the sequence_id has {len(identity)} characters, at most {limits.sequence_id_chars_max} are allowed",
            reason="SEQUENCE",
        )
    return identity, starts, ends


def unknown(identity: int | str, why: str) -> InvalidArgument:
    """The error of a call that goes on with what isn't there."""
    # INVALID_ARGUMENT as in Triton, whose clients begin anew on it.
    return InvalidArgument(
        f"there is no sequence {shown(identity)} of this client ({why}): begin it with sequence_start",
        reason="SEQUENCE_UNKNOWN",
    )


def shown(identity: int | str) -> str:
    """An id as messages write it."""
    return str(identity)[: limits.quoted_chars_max] if isinstance(identity, int) else repr(identity)
