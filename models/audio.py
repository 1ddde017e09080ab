"""Golden tests of the voice activity model: sounds that can be computed, so that no recording has to be shipped."""

import numpy as np
import numpy.typing as npt

from models.toml_text import golden

SAMPLES = 576  # 64 of the previous window, then 512 new ones
RATE = 16_000
# Measured with ONNX Runtime 1.32 on x86-64; from the file that the same wheel has for 8 and 16 kHz they are the same.
_EXPECTED = {"silence": 0.00166979, "tone of 440 Hz": 0.00329566, "vowel": 0.749905}


def sounds() -> dict[str, npt.NDArray[np.float32]]:
    """Name -> FP32 [1, 576], amplitude at most 1."""
    seconds = np.arange(SAMPLES) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    return {
        "silence": np.zeros((1, SAMPLES), np.float32),
        "tone of 440 Hz": tone.astype(np.float32)[None],
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


def golden_tests() -> str:
    """TOML of one test for each sound, each from a fresh state."""
    return "".join(
        golden(
            name,
            {
                "input": ("FP32", [1, SAMPLES], samples.ravel().tolist()),
                "state": ("FP32", [2, 1, 128], [0.0] * 256),
                "sr": ("INT64", [], [RATE]),
            },
            {"output": ("FP32", [1, 1], [_EXPECTED[name]])},
            1e-3,
        )
        for name, samples in sounds().items()
    )
