"""From an EmbedCall to the token ids of its texts, every bound checked before anything is computed."""

from appliance import limits
from appliance.calls import EmbedCall
from appliance.engine.llama.vocab import Vocab, utf8
from appliance.errors import InvalidArgument


def embed_inputs(call: EmbedCall, vocab: Vocab, tokens_max: int) -> list[list[int]]:
    """1 to ``tokens_max`` token ids for each text; InvalidArgument with the text's number and the bound."""
    if not 0 < len(call.texts) <= limits.embed_texts_max:
        raise InvalidArgument(f"{len(call.texts):,} texts to embed, allowed: 1 to {limits.embed_texts_max}")
    encoded = [utf8(text, f"text {number}") for number, text in enumerate(call.texts)]
    total = sum(map(len, encoded))
    if total > limits.prompt_bytes_max:
        raise InvalidArgument(f"texts of {total:,} bytes, at most {limits.prompt_bytes_max:,} are allowed")
    return [_tokens(number, text, vocab, tokens_max) for number, text in enumerate(encoded)]


def _tokens(number: int, text: bytes, vocab: Vocab, tokens_max: int) -> list[int]:
    count = vocab.tokens_at_least(text)
    if count <= tokens_max:
        tokens = vocab.tokenize(text, add_special=True, parse_special=False)
        if not tokens:
            raise InvalidArgument(f"text {number} is empty", reason="PROMPT_EMPTY")
        if len(tokens) <= tokens_max:
            return tokens
        count = len(tokens)
    raise InvalidArgument(
        f"text {number} has {count:,} tokens or more, an embedding takes at most {tokens_max:,}: split it",
        reason="CONTEXT_OVERFLOW",
    )
