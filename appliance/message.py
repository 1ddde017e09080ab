"""The base of everything that calls.py and answers.py send between a front-end and an engine."""

from typing import ClassVar

import msgspec


class Message(msgspec.Struct, array_like=True):
    """The head of every frame. ``final`` answers end their call."""

    final: ClassVar[bool] = True
