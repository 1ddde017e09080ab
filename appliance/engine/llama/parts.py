"""What an engine is made of, and how a model that generates is made ready: measured, and its pinned prefixes computed."""

import time
from collections.abc import Callable

import msgspec

from appliance.engine.llama.adapters import Adapters
from appliance.engine.llama.chat.prompt import Prompt, PromptBuilder
from appliance.engine.llama.chat.tools import blame_tool
from appliance.engine.llama.constrain.compiler import Grammar, GrammarCompiler
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.generator import Generator
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.roster import Roster
from appliance.engine.llama.sampling.chooser import usable
from appliance.engine.llama.vectors.embed import Embedder
from appliance.errors import FailedPrecondition, InvalidArgument
from appliance.model_spec import ModelSpec

# Lengths of the steps that are timed at load: the line through them is what the first decisions are made of.
_TIMED_STEPS = (1, 16)


class Generation:
    """The parts that a model needs to write text."""

    def __init__(
        self,
        context: Context,
        roster: Roster,
        generator: Generator,
        compiler: GrammarCompiler,
        warm_prefixes: Callable[[], None],
    ) -> None:
        self.context = context
        self.roster = roster
        self.step = generator.step
        self._generator = generator
        self._compiler = compiler
        self._warm_prefixes = warm_prefixes

    def compile(self, prompt: Prompt) -> Grammar | None:
        """The grammar that the answer must follow; InvalidArgument when it is none."""
        if prompt.constraint is None:
            return None
        if not prompt.trusted:
            return self._compiler.compile(prompt.constraint)
        try:
            return self._compiler.compile_lark(prompt.constraint.text)
        except InvalidArgument:
            blame_tool(prompt.tools, self._compiler.compile)
            raise

    def warm_up(self) -> None:
        """Proves that the model computes numbers, times its steps, and makes its pinned prefixes ready."""
        steps = [min(tokens, self.context.batch.capacity) for tokens in _TIMED_STEPS]
        self._time_step(1)  # also fetches the weights: it doesn't count
        self._generator.times.anchor([(tokens, self._time_step(tokens)) for tokens in steps])
        self._compiler.prepare()
        self._warm_prefixes()

    def _time_step(self, tokens: int) -> float:
        batch = self.context.batch
        batch.clear()
        index = batch.add([0] * tokens, 0, 0, output_last=True)
        began = time.perf_counter_ns()
        outcome = self.context.decode()
        took = time.perf_counter_ns() - began
        sound = outcome is Decoded.DONE and usable(self.context.logits(index))
        self.context.clear()
        if outcome is not Decoded.DONE:
            raise FailedPrecondition("the model cannot compute a single token", reason="MODEL_BROKEN")
        if not sound:
            raise FailedPrecondition(
                "the model's logits are NaN or infinite: its weights are damaged", reason="MODEL_BROKEN"
            )
        return float(took)

    def close(self) -> None:
        """Forgets every call and gives the context back."""
        self._generator.close()
        self.context.close()


class Parts(msgspec.Struct):
    """``generation`` is None for a model that only embeds, ``embedder`` for one that doesn't."""

    spec: ModelSpec
    model: LlamaModel
    prompts: PromptBuilder
    adapters: Adapters
    generation: Generation | None
    embedder: Embedder | None

    def close(self) -> None:
        """Gives native memory back, contexts before the model they were made of."""
        if self.generation:
            self.generation.close()
        if self.embedder:
            self.embedder.close()
        self.adapters.close()
        self.model.close()
