"""What a question and an answer between the daemon's processes are; all of them are listed in questions.py."""

import msgspec


class Said(msgspec.Struct, array_like=True):
    """Base of all questions and answers."""
