"""The voice activity model's own parts: its pre-processing, and golden tests that need no recording.

The network looks at 576 samples: 64 that it has seen, then 512 new ones. A file before it puts them together, so that a
client sends new samples only; the last 64 of them and the network's state then stay in the engine as the sequence's.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

CHUNK = 512  # new samples of a call: 32 ms
CONTEXT = 64  # samples of the call before
RATE = 16_000


def sounds(samples: int = CONTEXT + CHUNK) -> dict[str, npt.NDArray[np.float32]]:
    """Name -> FP32 [1, samples], amplitude at most 1."""
    seconds = np.arange(samples) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    return {
        "silence": np.zeros((1, samples), np.float32),
        "tone": tone.astype(np.float32)[None],
        "vowel": _vowel(seconds).astype(np.float32)[None],
    }


def _vowel(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """An open vowel: harmonics of 120 Hz, louder near the formants at 700, 1200 and 2600 Hz."""
    sound = np.zeros_like(seconds)
    for harmonic in range(1, 30):
        hertz = 120.0 * harmonic
        loudness = sum(np.exp(-(((hertz - formant) / width) ** 2)) for formant, width in _FORMANTS)
        sound += (loudness + 0.05) / harmonic**0.5 * np.sin(2 * np.pi * hertz * seconds)
    return 0.4 * sound / float(np.abs(sound).max())


_FORMANTS = ((700.0, 130.0), (1200.0, 150.0), (2600.0, 250.0))


def write_golden(folder: Path) -> None:
    """The arrays that models/silero-vad/model.toml names."""
    folder.mkdir()
    for name, samples in sounds().items():
        np.save(folder / f"{name}-context.npy", samples[:, :CONTEXT])
        np.save(folder / f"{name}.npy", samples[:, CONTEXT:])
    np.save(folder / "fresh-state.npy", np.zeros((2, 1, 128), np.float32))


def write_preprocess(path: Path) -> None:
    """``chunk`` [N, 512] and ``context`` [N, 64] to the network's ``input`` and ``sr``, and ``next_context``."""
    from onnx import TensorProto, helper, numpy_helper  # the demo's client needs only the sounds

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["context", "chunk"], ["input"], axis=1),
            helper.make_node("Slice", ["chunk", "begin", "end", "axis"], ["next_context"]),
            helper.make_node("Identity", ["rate"], ["sr"]),
        ],
        "silero_vad_preprocess",
        [value("chunk", TensorProto.FLOAT, ["N", CHUNK]), value("context", TensorProto.FLOAT, ["N", CONTEXT])],
        [
            value("input", TensorProto.FLOAT, ["N", CONTEXT + CHUNK]),
            value("sr", TensorProto.INT64, []),
            value("next_context", TensorProto.FLOAT, ["N", CONTEXT]),
        ],
        [
            numpy_helper.from_array(np.array([CHUNK - CONTEXT], np.int64), "begin"),
            numpy_helper.from_array(np.array([CHUNK], np.int64), "end"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(np.array(RATE, np.int64), "rate"),
        ],
    )
    # The network's own opset and format version: what reads one file reads the other.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    path.write_bytes(model.SerializeToString())
