"""A GGUF language model of some 250 kB that llama.cpp loads in milliseconds: llama architecture, byte tokens, 1 layer.

Weights are random from a fixed seed. With ``script`` the model is a bigram instead: greedily, each byte of the script
follows the one before it, whatever stood before that; after its last byte comes the end of the turn (or, with
``loop``, its first byte again). So a test knows every token that will come. Bytes of a script must differ.
"""

from pathlib import Path

import gguf
import numpy as np

EMBD = 64
FF = 64
BYTES = 256
MERGES = ["h e", "l l", "t h"]
SPECIALS = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FIRST_SPECIAL = BYTES + len(MERGES)
BOS, EOS, IM_START, IM_END = range(FIRST_SPECIAL, FIRST_SPECIAL + len(SPECIALS))
VOCAB = FIRST_SPECIAL + len(SPECIALS)


def byte_characters() -> list[str]:
    """GPT-2's printable stand-in for each byte: token n of this model is byte n."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    result, extra = [], 0
    for byte in range(BYTES):
        if byte in printable:
            result.append(chr(byte))
        else:
            result.append(chr(BYTES + extra))
            extra += 1
    return result


def write_tiny_gguf(
    path: Path,
    *,
    script: bytes = b"",
    loop: bool = False,
    chat_template: str | None = CHAT_TEMPLATE,
    context: int = 128,
    seed: int = 7,
    nan: bool = False,
) -> Path:
    """Writes the model to ``path``. ``nan`` makes every logit NaN."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(context)
    writer.add_embedding_length(EMBD)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBD // 4)
    _add_vocabulary(writer)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for name, tensor in _weights(script, loop, seed, nan).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    tokens = [*byte_characters(), *(m.replace(" ", "") for m in MERGES), *SPECIALS]
    types = [gguf.TokenType.NORMAL] * FIRST_SPECIAL + [gguf.TokenType.CONTROL] * len(SPECIALS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_eot_token_id(IM_END)
    writer.add_add_bos_token(False)


def _weights(script: bytes, loop: bool, seed: int, nan: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 0.3) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    embedding, output = normal(VOCAB, EMBD, scale=1.0), normal(VOCAB, EMBD)
    scale = 0.0 if script else 0.3
    if script:
        output = _bigram(embedding, script, loop)
    if nan:
        output[:] = np.nan
    return {
        "token_embd.weight": embedding,
        "output.weight": output,
        "output_norm.weight": np.ones(EMBD, np.float32),
        "blk.0.attn_norm.weight": np.ones(EMBD, np.float32),
        "blk.0.ffn_norm.weight": np.ones(EMBD, np.float32),
        "blk.0.attn_q.weight": normal(EMBD, EMBD, scale=scale),
        "blk.0.attn_k.weight": normal(EMBD, EMBD, scale=scale),
        "blk.0.attn_v.weight": normal(EMBD, EMBD, scale=scale),
        "blk.0.attn_output.weight": normal(EMBD, EMBD, scale=scale),
        "blk.0.ffn_gate.weight": normal(FF, EMBD, scale=scale),
        "blk.0.ffn_up.weight": normal(FF, EMBD, scale=scale),
        "blk.0.ffn_down.weight": normal(EMBD, FF, scale=scale),
    }


def _bigram(embedding: np.ndarray, script: bytes, loop: bool) -> np.ndarray:
    if len(set(script)) != len(script):
        raise ValueError("the bytes of a script must differ")
    output = np.zeros((VOCAB, EMBD), np.float32)
    followers = [*script[1:], script[0] if loop else IM_END]
    for token, follower in zip(script, followers, strict=True):
        output[follower] = embedding[token]
    return output
