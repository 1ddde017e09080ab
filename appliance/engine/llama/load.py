"""Puts an engine together out of a model folder. A failure on the way gives back what was made before it."""

from contextlib import ExitStack
from pathlib import Path

from appliance import limits
from appliance.clock import Clock, SystemClock
from appliance.engine.base import LoadOptions
from appliance.engine.llama.chat.prompt import PromptBuilder, load_template
from appliance.engine.llama.context import Context
from appliance.engine.llama.engine import LlamaEngine
from appliance.engine.llama.model import LlamaModel, thread_count
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
    with ExitStack() as undo:
        model = LlamaModel(regular_file(folder, spec.model_path), llama)
        undo.callback(model.close)
        threads = thread_count(llama, options.threads)
        tokens = model.context_tokens
        context = None
        if model.generates:
            context = Context(model, tokens=tokens, batch_tokens=min(llama.batch_tokens, tokens), threads=threads)
            undo.callback(context.close)
        embedder = Embedder(model, threads) if model.pooling is not None else None
        if embedder:
            undo.callback(embedder.close)
        template = load_template(_template_source(spec, folder, model), model.vocab)
        queue_max = spec.limits.max_queue or options.queue_max or limits.engine_queue_default_max
        prompts = PromptBuilder(model.vocab, template, tokens)
        engine = LlamaEngine(spec, model, context, embedder, prompts, clock or SystemClock(), queue_max)
        undo.pop_all()
        return engine


def _template_source(spec: ModelSpec, folder: Path, model: LlamaModel) -> str:
    name = spec.llama.chat_template
    if not name:
        return model.chat_template()
    path = listed_file(spec, folder, name, "doc")
    try:
        return read_bounded(path, name, limits.template_bytes_max).decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name!r} is not UTF-8 at byte {error.start}", reason="MODEL_FILE") from None
