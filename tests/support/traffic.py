"""Clients of the Open Inference Protocol that call one model without pause, and remember every answer and error."""

import json
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pytest
import tritonclient.grpc as oip
from tritonclient.utils import InferenceServerException

_CALL_SECONDS = 30.0
_WAIT_SECONDS = 60.0

# A client that tries again what was not answered, as gRPC does it by itself when it is told to (gRFC A6).
_RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.5s",
    "maxBackoff": "4s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
PATIENT = [("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRIES}]}))]


class Answered(NamedTuple):
    """``began`` and ``ended`` on time.monotonic()'s clock."""

    began: float
    ended: float
    version: str
    value: float


class Failed(NamedTuple):
    began: float
    ended: float
    status: str
    message: str


def fp32(array: np.ndarray, name: str = "x") -> list[oip.InferInput]:
    tensor = oip.InferInput(name, list(array.shape), "FP32")
    tensor.set_data_from_numpy(array.astype(np.float32))
    return [tensor]


def text(value: bytes, name: str = "x") -> list[oip.InferInput]:
    tensor = oip.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value], dtype=np.object_))
    return [tensor]


def call(address: str, model: str, inputs: list[oip.InferInput] | None = None, version: str = "") -> oip.InferResult:
    """One call on a connection of its own; raises InferenceServerException."""
    with oip.InferenceServerClient(address) as client:
        return client.infer(model, inputs or fp32(np.ones(1)), model_version=version, client_timeout=_CALL_SECONDS)


class Traffic:
    """A context manager. ``output`` is the tensor whose first element is remembered; ``options``: the channel's."""

    def __init__(
        self,
        address: str,
        model: str,
        threads: int = 2,
        inputs: list[oip.InferInput] | None = None,
        output: str = "out_x",
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.answers: list[Answered] = []
        self.errors: list[Failed] = []
        self._address = address
        self._model = model
        self._inputs = inputs or fp32(np.ones(1))
        self._output = output
        self._options = list(options)
        self._changed = threading.Condition()
        self._stop = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        self.more(2 * len(self._threads))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join(_WAIT_SECONDS)
        assert not any(t.is_alive() for t in self._threads), f"a call of {self._model} never came back"

    def _run(self) -> None:
        with oip.InferenceServerClient(self._address, channel_args=self._options) as client:
            while not self._stop:
                self._one(client)

    def _one(self, client: oip.InferenceServerClient) -> None:
        began = time.monotonic()
        try:
            result = client.infer(self._model, self._inputs, client_timeout=_CALL_SECONDS)
        except InferenceServerException as error:
            failed = Failed(began, time.monotonic(), str(error.status()), error.message())
            with self._changed:
                self.errors.append(failed)
            return
        value = float(result.as_numpy(self._output).flat[0])
        answer = Answered(began, time.monotonic(), result.get_response().model_version, value)
        with self._changed:
            self.answers.append(answer)
            self._changed.notify_all()

    def more(self, count: int, since: float | None = None) -> Answered:
        """Waits for ``count`` answers to calls that began after ``since`` (now); returns the first of them."""
        since = time.monotonic() if since is None else since

        def later() -> list[Answered]:
            return [a for a in self.answers if a.began >= since]

        with self._changed:
            if not self._changed.wait_for(lambda: len(later()) >= count, _WAIT_SECONDS):
                pytest.fail(f"no {count} answers of {self._model} in time; errors: {self.errors[-3:]}")
            return min(later(), key=lambda a: a.ended)
