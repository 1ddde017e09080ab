"""Golden tests of the voice activity model: sounds that can be computed, so that no recording has to be shipped."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

SAMPLES = 576  # 64 of the previous window, then 512 new ones
RATE = 16_000


def sounds() -> dict[str, npt.NDArray[np.float32]]:
    """Name -> FP32 [1, 576], amplitude at most 1."""
    seconds = np.arange(SAMPLES) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    return {
        "silence": np.zeros((1, SAMPLES), np.float32),
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
        np.save(folder / f"{name}.npy", samples)
    np.save(folder / "fresh-state.npy", np.zeros((2, 1, 128), np.float32))
