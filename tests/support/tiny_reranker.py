"""A GGUF reranker of some 200 kB: BERT, one layer, byte tokens, a classification head with one output.

Attention looks everywhere alike, so that the score grows with the share of the byte ``LIKED`` in query and document:
a test knows the order. ``template`` stands in the file as its "rerank" template; ``labels`` makes it a classifier of
several classes; without ``head`` it has the pooling of a reranker and nothing that scores. With ``wordpiece`` the
vocabulary is BERT's own kind, of single letters, which closes every text with [SEP] without saying so.
"""

from pathlib import Path

import gguf
import numpy as np
from tiny_gguf import BYTES, MERGES, byte_characters

EMBD = 32
LIKED = "g"
CLS, SEP = BYTES + len(MERGES), BYTES + len(MERGES) + 1
SPECIALS = ["<cls>", "<sep>"]
VOCAB = BYTES + len(MERGES) + len(SPECIALS)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"\u2581{letter}" for letter in LETTERS)]


def write_tiny_reranker(
    path: Path,
    *,
    context: int = 128,
    template: str = "",
    labels: tuple[str, ...] = (),
    head: bool = True,
    wordpiece: bool = False,
    nan_byte: int | None = None,
) -> Path:
    """Writes the model to ``path``. Whatever holds the byte ``nan_byte`` has the score NaN."""
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_name("tiny reranker")
    writer.add_block_count(1)
    writer.add_context_length(context)
    writer.add_embedding_length(EMBD)
    writer.add_feed_forward_length(EMBD)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-5)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    if labels:
        writer.add_classifier_output_labels(list(labels))
    vocab = _wordpieces(writer) if wordpiece else _byte_vocabulary(writer)
    if template:
        writer.add_chat_template([{"name": "rerank", "template": template}])
    for name, tensor in _weights(vocab, context, max(1, len(labels)), head, nan_byte).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _byte_vocabulary(writer: gguf.GGUFWriter) -> int:
    writer.add_token_type_count(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*byte_characters(), *(m.replace(" ", "") for m in MERGES), *SPECIALS])
    writer.add_token_types([gguf.TokenType.NORMAL] * (BYTES + len(MERGES)) + [gguf.TokenType.CONTROL] * len(SPECIALS))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(CLS)
    writer.add_eos_token_id(SEP)
    writer.add_sep_token_id(SEP)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    return VOCAB


def _wordpieces(writer: gguf.GGUFWriter) -> int:
    writer.add_token_type_count(1)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(WORDPIECES)
    writer.add_token_types([gguf.TokenType.CONTROL] * 4 + [gguf.TokenType.NORMAL] * (len(WORDPIECES) - 4))
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(1)
    return len(WORDPIECES)


def _weights(vocab: int, context: int, outputs: int, head: bool, nan_byte: int | None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    embedding = normal(vocab, EMBD)
    ones, zeros = np.ones(EMBD, np.float32), np.zeros(EMBD, np.float32)
    identity, nothing = np.eye(EMBD, dtype=np.float32), np.zeros((EMBD, EMBD), np.float32)
    liked = embedding[ord(LIKED) if vocab == VOCAB else WORDPIECES.index(f"\u2581{LIKED}")]
    weights = {
        "token_types.weight": np.zeros((1, EMBD), np.float32),
        "position_embd.weight": normal(context, EMBD, scale=0.01),
        "token_embd_norm.weight": ones,
        "token_embd_norm.bias": zeros,
        "blk.0.attn_q.weight": nothing,
        "blk.0.attn_k.weight": nothing,
        "blk.0.attn_v.weight": identity,
        "blk.0.attn_output.weight": identity,
        "blk.0.attn_output_norm.weight": ones,
        "blk.0.attn_output_norm.bias": zeros,
        "blk.0.ffn_up.weight": nothing,
        "blk.0.ffn_down.weight": nothing,
        "blk.0.layer_output_norm.weight": ones,
        "blk.0.layer_output_norm.bias": zeros,
    }
    if head:
        weights["cls.output.weight"] = np.tile(liked / EMBD, (outputs, 1)).astype(np.float32)
        weights["cls.output.bias"] = np.zeros(outputs, np.float32)
    if nan_byte is not None:
        embedding[nan_byte] = np.nan
    return {"token_embd.weight": embedding, **weights}
