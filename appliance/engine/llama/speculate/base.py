"""The contract between the engine and whatever guesses tokens for it.

The engine computes each guess in the same batch as the token before it, chooses at every place as it would have chosen
anyway, and keeps guesses while they equal what was chosen: a guess changes when a token comes, never which one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import msgspec


class Wanted(msgspec.Struct):
    """A decoding sequence that may be guessed for.

    ``key`` is the engine's number of it. ``tokens`` are its prompt and answer so far, the last one chosen but not
    computed; it only ever grows, and nobody here keeps or changes it. ``most``: no more guesses than this.
    """

    key: int
    tokens: list[int]
    most: int


class StepCost(Protocol):
    """What a step is known to take."""

    def predict_ns(self, tokens: int) -> float:
        """Nanoseconds of a step of ``tokens`` tokens."""
        ...


class Speculation(ABC):
    """Guesses the next tokens. Owned by the engine's thread."""

    @abstractmethod
    def propose(self, wanted: Sequence[Wanted], cost: StepCost, others: int = 0) -> list[list[int]]:
        """One list of guesses for each of ``wanted``, empty where none would pay.

        ``others`` are the tokens of the coming step beside the one of each sequence in ``wanted``: what is not guessed
        for, and prompts. Called once a step, also when nothing may be guessed: it learns from what came of the last one.
        """

    @abstractmethod
    def judge(self, key: int, drafted: int, accepted: int) -> None:
        """Of the ``drafted`` guesses of ``key`` in the step, the first ``accepted`` were right."""

    @abstractmethod
    def forget(self, key: int) -> None:
        """The sequence ended; its number may come again for another one."""

    @abstractmethod
    def close(self) -> None:
        """Gives native memory back."""
