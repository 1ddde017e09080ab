"""Puts an engine together out of a model folder. A failure on the way gives back what was made before it."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from appliance import limits
from appliance.clock import Clock, SystemClock
from appliance.engine.base import LoadOptions
from appliance.engine.llama.accounts import Accounts
from appliance.engine.llama.adapters import Adapters, load_adapters
from appliance.engine.llama.cache.kv_cache import KvCache
from appliance.engine.llama.cache.pinned import pinned_tokens
from appliance.engine.llama.cache.warm import warm_prefixes
from appliance.engine.llama.chat.prompt import PromptBuilder, load_template
from appliance.engine.llama.constrain.compiler import GrammarCompiler
from appliance.engine.llama.context import Context
from appliance.engine.llama.engine import LlamaEngine
from appliance.engine.llama.generator import Generator
from appliance.engine.llama.guesses import Guesses
from appliance.engine.llama.model import LlamaModel, thread_count
from appliance.engine.llama.parts import Generation, Parts
from appliance.engine.llama.roster import Roster
from appliance.engine.llama.schedule.plan import PREFILL_TOKENS_MIN
from appliance.engine.llama.speculate.make import make_speculation
from appliance.engine.llama.vectors.embed import Embedder
from appliance.engine.model_files import listed_file, read_bounded, regular_file
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec


def load(spec: ModelSpec, folder: Path, options: LoadOptions, clock: Clock | None = None) -> LlamaEngine:
    """Loads the GGUF model in ``folder``.

    Raises InvalidArgument (MODEL_FILE, MODEL_CORRUPT, MODEL_NOT_LOADABLE) for a bad file or option, Unimplemented for
    kinds of models that are not served, ResourceExhausted when there is no memory for the context.
    """
    llama = spec.llama
    if llama.batch_tokens < 1:
        raise InvalidArgument(f"llama.batch_tokens is {llama.batch_tokens}, allowed: 1 or more")
    clock = clock or SystemClock()
    with ExitStack() as undo:
        model = LlamaModel(regular_file(folder, spec.model_path), llama)
        undo.callback(model.close)
        adapters = load_adapters(spec, folder, model)
        undo.callback(adapters.close)
        template = load_template(_template_source(spec, folder, model), model.vocab)
        context_tokens = min(model.context_tokens, spec.limits.max_context or model.context_tokens)
        prompts = PromptBuilder(model.vocab, template, context_tokens)
        accounts = Accounts(clock)
        generation = None
        if model.generates:
            generation = _generation(spec, folder, options, model, adapters, prompts, accounts, clock)
            undo.callback(generation.close)
        embedder = None
        if model.pooling is not None:
            embedder = Embedder(model, thread_count(llama, options.threads))
            undo.callback(embedder.close)
        queue_max = spec.limits.max_queue or options.queue_max or limits.engine_queue_default_max
        parts = Parts(spec, model, prompts, adapters, generation, embedder)
        engine = LlamaEngine(parts, accounts, clock, queue_max)
        undo.pop_all()
        return engine


def _generation(
    spec: ModelSpec,
    folder: Path,
    options: LoadOptions,
    model: LlamaModel,
    adapters: Adapters,
    prompts: PromptBuilder,
    accounts: Accounts,
    clock: Clock,
) -> Generation:
    llama = spec.llama
    threads = thread_count(llama, options.threads)
    shares = not (model.recurrent or llama.deterministic)
    pinned = pinned_tokens(llama.pinned, prompts.build, model.context_tokens) if shares else []
    # A whole context must fit beside what is never evicted.
    tokens = max(llama.kv_cache_tokens, model.context_tokens) + sum(map(len, pinned))
    sequences = limits.recurrent_sequences_max if model.recurrent else limits.sequences_max
    with ExitStack() as undo:
        context = Context(
            model,
            tokens=tokens,
            batch_tokens=min(llama.batch_tokens, tokens),
            threads=threads,
            sequences=sequences,
        )
        undo.callback(context.close)
        guesses = Guesses(
            make_speculation(spec, folder, model, tokens=tokens, threads=threads) if shares else None, forced=shares
        )
        undo.callback(guesses.close)
        cache = KvCache(context, tokens, sequences, shares=shares)
        roster = Roster(
            cache, guesses, clock, accounts, together=_together(sequences, llama.deterministic, context.batch.capacity)
        )
        generator = Generator(context, roster, model.vocab, adapters, guesses, clock, accounts, options.latency_wanted)
        warm = partial(warm_prefixes, context, cache, pinned, options)
        generation = Generation(context, roster, generator, GrammarCompiler(model.vocab), warm)
        undo.pop_all()
        return generation


def _together(sequences: int, deterministic: bool, batch_tokens: int) -> int:
    """How many answers are computed at a time, where the cache has room for them.

    A quarter of the ids is for prefixes, and a batch has a token for each answer and some for prompts.
    """
    return 1 if deterministic else max(1, min(sequences * 3 // 4, batch_tokens - PREFILL_TOKENS_MIN))


def _template_source(spec: ModelSpec, folder: Path, model: LlamaModel) -> str:
    name = spec.llama.chat_template
    if not name:
        return model.chat_template()
    path = listed_file(spec, folder, name, "doc")
    try:
        return read_bounded(path, name, limits.template_bytes_max).decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name!r} is not UTF-8 at byte {error.start}", reason="MODEL_FILE") from None
