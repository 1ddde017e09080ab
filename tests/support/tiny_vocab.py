"""A GGUF vocabulary without weights: bytes, and whatever control tokens a test wants; and llguidance's view of it."""

from collections.abc import Sequence
from pathlib import Path

import gguf
import llguidance
from tiny_gguf import FIRST_SPECIAL, MERGES, byte_characters

from appliance.engine.llama.constrain.tokenizer import build_tokenizer
from appliance.engine.llama.native import C, start_backend
from appliance.engine.llama.vocab import Vocab

EOS, IM_START, IM_END = "<|eos|>", "<|im_start|>", "<|im_end|>"
TURN_TOKENS = (EOS, IM_START, IM_END)


class TinyVocab:
    """``vocab`` is ours, ``tokenizer`` llguidance's. Token n below 256 is byte n; ``ids`` are those of the rest."""

    def __init__(self, folder: Path, control: Sequence[str] = (), user: Sequence[str] = ()) -> None:
        start_backend()
        path = folder / "vocab.gguf"
        names = [*TURN_TOKENS, *control, *user]
        _write(path, names, len(TURN_TOKENS) + len(control))
        params = C.llama_model_default_params()
        params.vocab_only = True
        self._model = C.llama_model_load_from_file(str(path).encode(), params)
        assert self._model
        handle = C.llama_model_get_vocab(self._model)
        self.vocab = Vocab(handle)
        self.ids = {name: FIRST_SPECIAL + number for number, name in enumerate(names)}
        self.eos = self.ids[EOS]
        self.tokenizer = build_tokenizer(self.vocab)

    def tokens(self, text: str) -> list[int]:
        """Bytes, except for the tokens that have a name."""
        return self.vocab.tokenize(text.encode(), add_special=False, parse_special=True)

    def text(self, tokens: Sequence[int]) -> str:
        """What a parser is given: control tokens written out, half a character at the end left out."""
        return b"".join(self.vocab.shown_piece(token) for token in tokens).decode(errors="ignore")

    def matcher(self, grammar: str) -> llguidance.LLMatcher:
        matcher = llguidance.LLMatcher(self.tokenizer, llguidance.grammar_from("lark", grammar), log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        return matcher

    def accepts(self, grammar: str, text: str) -> bool:
        """Whether ``text`` is an answer in full."""
        matcher, tokens = self.matcher(grammar), self.tokens(text)
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    def close(self) -> None:
        C.llama_model_free(self._model)


def _write(path: Path, names: Sequence[str], controls: int) -> None:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    kinds = [gguf.TokenType.CONTROL] * controls + [gguf.TokenType.USER_DEFINED] * (len(names) - controls)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*byte_characters(), *(merge.replace(" ", "") for merge in MERGES), *names])
    writer.add_token_types([*[gguf.TokenType.NORMAL] * FIRST_SPECIAL, *kinds])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(FIRST_SPECIAL)
    writer.add_eos_token_id(FIRST_SPECIAL)
    writer.add_eot_token_id(FIRST_SPECIAL + 2)
    writer.add_add_bos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
