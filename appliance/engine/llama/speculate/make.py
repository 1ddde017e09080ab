"""From model.toml to a way of guessing: none, look-up, or a draft model that is checked to speak the same vocabulary."""

import logging
from contextlib import ExitStack
from pathlib import Path

from appliance import limits
from appliance.engine.llama.context import Context
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.native import C
from appliance.engine.llama.speculate.base import Speculation
from appliance.engine.llama.speculate.draft_model import DraftSpeculation
from appliance.engine.llama.speculate.lookup import LookupSpeculation
from appliance.engine.model_files import regular_file
from appliance.errors import InvalidArgument
from appliance.model_spec import LlamaOptions, ModelSpec

_log = logging.getLogger(__name__)
# Vocabularies of one family are padded to different sizes; llama.cpp's own drafting allows as much (speculative.cpp).
_PADDING_MAX = 128


def make_speculation(
    spec: ModelSpec, folder: Path, model: LlamaModel, *, tokens: int, threads: int
) -> Speculation | None:
    """What guesses for ``model``; None: nothing does. ``tokens``: the room of a draft model's KV cache.

    Raises InvalidArgument (MODEL_FILE, MODEL_CORRUPT, MODEL_NOT_LOADABLE, DRAFT_MODEL, DRAFT_VOCABULARY) for a draft
    model that is missing or does not fit, ResourceExhausted (CONTEXT_MEMORY) when there is no memory for its context, FailedPrecondition
    (MODEL_BROKEN) when it cannot compute.
    """
    llama = spec.llama
    drafts = [file.path for file in spec.files if file.role == "draft"]
    if llama.speculation == "draft" and not drafts:
        raise InvalidArgument(
            'llama.speculation is "draft", but model.toml lists no file with role "draft": add one, or use "lookup"',
            reason="MODEL_FILE",
        )
    if len(drafts) > 1:
        raise InvalidArgument(
            f'model.toml lists {len(drafts)} files with role "draft", at most one is used', reason="MODEL_FILE"
        )
    if llama.speculation == "off" or llama.deterministic or not model.generates:
        return None
    if not _forgets(model):
        _log.info("nothing is guessed: this kind of model cannot take a token back")
        return None
    if drafts and llama.speculation != "lookup":
        return load_draft(regular_file(folder, drafts[0]), model, llama, tokens=tokens, threads=threads)
    return LookupSpeculation(frozenset(model.vocab.turn_ends))


def load_draft(path: Path, target: LlamaModel, llama: LlamaOptions, *, tokens: int, threads: int) -> DraftSpeculation:
    """The draft model at ``path`` with a context of its own; errors as make_speculation raises them."""
    with ExitStack() as undo:
        draft = LlamaModel(path, LlamaOptions(gpu_layers=llama.gpu_layers))
        undo.callback(draft.close)
        if not draft.generates or not _forgets(draft):
            raise InvalidArgument(
                "the draft model must generate text and be able to take tokens back: "
                "use a smaller model of the same family",
                reason="DRAFT_MODEL",
            )
        positions = draft.layout.get("position_embd.weight")
        if positions and positions.shape[-1] < target.context_tokens:
            raise InvalidArgument(
                f"the draft model knows {positions.shape[-1]:,} positions, the model's context has "
                f"{target.context_tokens:,}: use another, or a smaller llama.context_tokens",
                reason="DRAFT_MODEL",
            )
        common = check_vocabulary(target, draft)
        sequences = limits.draft_sequences_max
        batch_tokens = min(tokens, limits.draft_step_tokens_max)
        context = Context(draft, tokens=tokens, batch_tokens=batch_tokens, threads=threads, sequences=sequences)
        undo.callback(context.close)
        speculation = DraftSpeculation(draft, context, sequences, common)
        speculation.measure()
        undo.pop_all()
        return speculation


def check_vocabulary(target: LlamaModel, draft: LlamaModel) -> int:
    """How many token ids mean the same to both models: all that both have, or InvalidArgument (DRAFT_VOCABULARY)."""
    ours, theirs = target.vocab, draft.vocab
    if C.llama_vocab_type(C.llama_model_get_vocab(target.handle)) != C.llama_vocab_type(
        C.llama_model_get_vocab(draft.handle)
    ):
        raise _other_vocabulary("its tokenizer is of another kind")
    if abs(ours.size - theirs.size) > _PADDING_MAX:
        raise _other_vocabulary(f"it has {theirs.size:,} tokens, the model {ours.size:,}")
    common = min(ours.size, theirs.size)
    for token in range(common):
        if ours.text(token) != theirs.text(token):
            raise _other_vocabulary(
                f"token {token:,} is {theirs.text(token)[:40]!r}, the model's {ours.text(token)[:40]!r}"
            )
    return common


def _other_vocabulary(what: str) -> InvalidArgument:
    return InvalidArgument(
        f'the draft model has another vocabulary: {what}; use one of the same family, or llama.speculation = "lookup"',
        reason="DRAFT_VOCABULARY",
    )


def _forgets(model: LlamaModel) -> bool:
    """Whether single tokens can be cut from its memory: recurrent ones keep one state, not one for each token."""
    return not C.llama_model_is_recurrent(model.handle) and not C.llama_model_is_hybrid(model.handle)
