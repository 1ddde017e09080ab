"""Whoever comes first ends a call: gRPC's loop, the answering thread or a thread of a pool."""


class Once:
    """Thread-safe without a lock: list.pop is atomic."""

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = [None]

    def take(self) -> bool:
        """True for the first who asks."""
        try:
            self._turn.pop()
        except IndexError:
            return False
        return True
