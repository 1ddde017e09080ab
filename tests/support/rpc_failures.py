"""`with fails("NOT_FOUND", "word"):` around a call, whichever client library makes it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc


@contextmanager
def fails(status: str, *words: str) -> Iterator[None]:
    """The block must end with gRPC's or tritonclient's error of this status, whose message has all ``words``.

    All are regular expressions.
    """
    try:
        yield
    except Exception as error:
        call: Any = error
        if isinstance(error, grpc.RpcError):  # what stubs raise is a grpc.Call too
            came, message = call.code().name, call.details()
        elif type(error).__name__ == "InferenceServerException":  # not imported: see triton_calls.py
            came, message = str(call.status()).removeprefix("StatusCode."), call.message()
        else:
            raise
    else:
        raise AssertionError(f"no error; expected {status} with {words}")
    assert re.fullmatch(status, came), f"{came}: {message}"
    for word in words:
        assert re.search(word, message), f"{word!r} is not in: {message}"
