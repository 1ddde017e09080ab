"""Loads tiny GGUF models into the real engine and runs calls on it: what the tests of engine/llama have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tiny_gguf import write_tiny_gguf

from appliance.answers import AnyAnswer, GenerateDone, TextPiece
from appliance.calls import AnyCall
from appliance.clock import Clock, SystemClock
from appliance.engine.base import LoadOptions, Placed
from appliance.engine.llama.context import Context
from appliance.engine.llama.engine import LlamaEngine
from appliance.engine.llama.load import load
from appliance.errors import ApplianceError
from appliance.model_spec import Card, LlamaOptions, ModelFile, ModelLimits, ModelSpec
from appliance.tensor_heads import TensorHead
from appliance.types import Buffer

CARD = Card(licence="Apache-2.0", source="made by the tests", intended_use="tests", limits="none")
STEPS_MAX = 10_000


class RecordingReply:
    """A Reply that keeps what it gets, and can be cancelled."""

    def __init__(self, arrived_ns: int = 0) -> None:
        self.cancelled = False
        self.backlogged = False
        self.arrived_ns = arrived_ns
        self.sent: list[AnyAnswer] = []
        self.final: AnyAnswer | None = None
        self.error: ApplianceError | None = None
        self.buffers: Sequence[Buffer] = ()

    def send(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        assert not self.over
        assert not answer.final
        self.sent.append(answer)

    def place(self, heads: tuple[TensorHead, ...], buffers: Sequence[Buffer]) -> Placed:
        return heads, buffers

    def finish(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        assert not self.over
        assert answer.final
        self.final, self.buffers = answer, buffers

    def fail(self, error: ApplianceError) -> None:
        assert not self.over
        self.error = error

    @property
    def over(self) -> bool:
        return self.final is not None or self.error is not None

    @property
    def pieces(self) -> list[TextPiece]:
        return [a for a in self.sent if isinstance(a, TextPiece)]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def done(self) -> GenerateDone:
        if self.error:
            raise self.error
        assert isinstance(self.final, GenerateDone)
        return self.final


def make_spec(llama: LlamaOptions | None = None, *, files: tuple[str, ...] = (), **limits: int) -> ModelSpec:
    return ModelSpec(
        name="tiny",
        version="1.0.0",
        engine="llama",
        files=(ModelFile(path="model.gguf"), *(ModelFile(path=f, role="doc") for f in files)),
        card=CARD,
        llama=llama or LlamaOptions(),
        limits=ModelLimits(**limits),
    )


def make_engine(
    folder: Path,
    llama: LlamaOptions | None = None,
    *,
    clock: Clock | None = None,
    queue_max: int = 0,
    max_tokens: int = 0,
    **model: Any,
) -> LlamaEngine:
    """An engine over a tiny model; ``model`` are the arguments of write_tiny_gguf."""
    write_tiny_gguf(folder / "model.gguf", **model)
    spec = make_spec(llama, max_queue=queue_max, max_tokens=max_tokens)
    return load(spec, folder, LoadOptions(threads=1), clock or SystemClock())


def context_of(engine: LlamaEngine) -> Context:
    """The context in which the engine writes text."""
    assert engine._generation
    return engine._generation.context


def submit(engine: LlamaEngine, call: AnyCall, arrived_ns: int = 0) -> RecordingReply:
    reply = RecordingReply(arrived_ns)
    engine.submit(call, [], reply)
    return reply


def run(engine: LlamaEngine, call: AnyCall) -> RecordingReply:
    """Submits and steps until nothing is left to do."""
    reply = submit(engine, call)
    run_until(engine, lambda: not engine.has_work())
    return reply


def run_until(engine: LlamaEngine, condition: Callable[[], bool]) -> int:
    """Steps until ``condition``; gives the number of steps."""
    for steps in range(STEPS_MAX):
        if condition():
            return steps
        engine.step()
    raise AssertionError("the engine never came to an end")
