"""The contract between an engine (a loaded model) and the loop that owns it.

All of an engine's methods are called by one thread, the loop of worker/engine_process.py: no locks, no shared state.
The loop takes what has arrived, hands each call over with ``submit``, calls ``step`` while ``has_work`` says so, and
between two steps looks at its sockets again: so a step must be bounded (one batch, one decode), and a client that goes
away is seen after at most one step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from appliance.answers import AnyAnswer
from appliance.calls import AnyCall
from appliance.errors import ApplianceError
from appliance.model_spec import ModelSpec
from appliance.tensor_heads import TensorHead
from appliance.types import Buffer, EngineStats, ModelSignature, Tensor

Placed = tuple[tuple[TensorHead, ...], Sequence[Buffer]]


class Reply(Protocol):
    """Where a call's answers go. After ``finish`` or ``fail`` nothing more may be sent."""

    @property
    def cancelled(self) -> bool:
        """The client went away, its deadline passed, or it reads too slowly: stop the work, send nothing more."""
        ...

    @property
    def arrived_ns(self) -> int:
        """When the call was read, on CLOCK_MONOTONIC."""
        ...

    @property
    def backlogged(self) -> bool:
        """The client reads more slowly than answers come: send it nothing more until this is over."""
        ...

    def send(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        """One answer of a stream."""
        ...

    def place(self, heads: tuple[TensorHead, ...], buffers: Sequence[Buffer]) -> Placed:
        """Puts outputs where the client wants them already now: the heads and buffers that ``finish`` is to get.

        For a call that leaves something behind in the engine, which must not happen when its answer can't be given.
        Raises ApplianceError as the client will get it.
        """
        ...

    def finish(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        """The last answer."""
        ...

    def fail(self, error: ApplianceError) -> None:
        """The call ends with an error."""
        ...


class LoadOptions(msgspec.Struct, frozen=True):
    """What the daemon decides about a load. ``threads`` 0: the engine's own default.

    ``queue_max``: calls that may wait; one more is refused with RESOURCE_EXHAUSTED. model.toml's own limit wins.
    ``cache_dir``: a folder of this model version's own for what is worth keeping across restarts, made when needed;
    empty: nowhere. ``digest``: of the version's manifest. ``providers``: the daemon's execution providers in order of
    preference, where model.toml names none. ``latency_wanted()``: whether models of the latency class have work.
    """

    threads: int = 0
    queue_max: int = 128
    cache_dir: str = ""
    digest: str = ""
    providers: tuple[str, ...] = ()
    latency_wanted: Callable[[], bool] = lambda: False


class Engine(ABC):
    """One loaded model."""

    @abstractmethod
    def signature(self) -> ModelSignature:
        """What the model takes and gives; does not change while it is loaded."""

    @abstractmethod
    def warm_up(self) -> None:
        """Runs what makes the first request as fast as the second. Raises ApplianceError when the model cannot run."""

    @abstractmethod
    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:
        """Takes a call into the queue; ``tensors`` are an InferCall's.

        Raises an ApplianceError to refuse it (bad input, queue full): the loop then answers with it.
        """

    @abstractmethod
    def has_work(self) -> bool:
        """Whether ``step`` has anything to do."""

    def wait_seconds(self) -> float:
        """How long ``step`` has nothing to do unless another call comes, while there is work; 0: none of that.

        What waits then, waits for company: the loop sleeps so long at the most, and takes what arrives.
        """
        return 0.0

    @abstractmethod
    def step(self) -> None:
        """One bounded piece of work. A failure of one call goes to its reply; an exception from here ends the process."""

    def shares_cores(self) -> bool:
        """Whether steps are computed on the processor's cores, rather than on a device of the engine's own."""
        return True

    @abstractmethod
    def stats(self) -> EngineStats:
        """Counters since the load."""

    def close(self) -> None:  # noqa: B027  # most engines have nothing to give back
        """Gives native memory back."""


class Loader(Protocol):
    """What each engine package offers as ``load``."""

    def __call__(self, spec: ModelSpec, folder: Path, options: LoadOptions) -> Engine:
        """Loads the model files in ``folder``; raises ApplianceError with what is wrong with them."""
        ...
