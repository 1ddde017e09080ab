"""A GGUF LoRA adapter of some kB for the tiny models of tiny_gguf.py, which makes them say something else.

On a scripted model, greedily, each byte of ``script`` is followed by the next, over what the model's own script says;
its last byte ends the turn. ``tensor`` and friends twist the file, for the tests of what is refused.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tiny_gguf import IM_END, VOCAB

# Against 1 of the model's own script.
STRENGTH = 3.0


def write_tiny_lora(path: Path, model: Path, script: bytes) -> Path:
    """Writes an adapter on the output matrix of the tiny model in the file ``model``."""
    (embedding,) = [t.data for t in gguf.GGUFReader(str(model)).tensors if t.name == "token_embd.weight"]
    if len(set(script)) != len(script):
        raise ValueError("the bytes of a script must differ")
    a = np.array(embedding[list(script)], np.float32)
    b = np.zeros((VOCAB, len(script)), np.float32)
    for place, follower in enumerate([*script[1:], IM_END]):
        b[follower, place] = STRENGTH
    # alpha = rank is a scale of 1.
    return write_lora(path, {"output.weight.lora_a": a, "output.weight.lora_b": b}, alpha=len(script))


def write_lora(
    path: Path,
    tensors: dict[str, np.ndarray],
    *,
    alpha: float | None = 1.0,
    architecture: str = "llama",
    general_type: str = "adapter",
    adapter_type: str = "lora",
    extra: dict[str, Any] | None = None,
) -> Path:
    """Writes any adapter: ``extra`` maps a key to a list of whole numbers, a whole number or a text."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_type(general_type)
    writer.add_string("adapter.type", adapter_type)
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    for key, value in (extra or {}).items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def pair(base: str, rows: int, columns: int, rank: int = 2, *, scale: float = 0.1) -> dict[str, np.ndarray]:
    """A random pair for the matrix ``base`` [rows, columns]."""
    rng = np.random.default_rng(5)
    return {
        f"{base}.lora_a": (rng.standard_normal((rank, columns)) * scale).astype(np.float32),
        f"{base}.lora_b": (rng.standard_normal((rows, rank)) * scale).astype(np.float32),
    }
