"""From token pieces to text: whole UTF-8 characters only, cut before the first stop string, in any cut of the bytes.

A token may be half a character, and a stop string may begin in one token and end three later. So what could still turn
out to be a character or a stop string is held back; the rest goes out at once. The text is cut where a stop string is
complete for the first time (the longest one, when several end on the same character), which doesn't depend on how the
bytes were cut into pieces.
"""

import codecs
from collections.abc import Sequence


class TextStream:
    """One sequence's text, piece by piece.

    After ``push`` or ``finish`` met a stop string it is in ``stopped_by``, and nothing more comes out.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._matchers = [_StopMatcher(stop) for stop in stops]
        self._held = ""
        self.stopped_by = ""

    def push(self, piece: bytes) -> str:
        """The text that is certain now that ``piece`` has come."""
        if self.stopped_by:
            return ""
        return self._release(self._decode(piece))

    def finish(self) -> str:
        """The text that was held back; half a character at the end becomes U+FFFD."""
        if self.stopped_by:
            return ""
        text = self._release(self._decode(b"", True))
        text, self._held = text + self._held, ""
        return text

    def _release(self, text: str) -> str:
        if not self._matchers or not text:
            return text
        pending = self._held + text
        for index in range(len(self._held), len(pending)):
            stop = self._advance(pending[index])
            if stop:
                self.stopped_by, self._held = stop, ""
                return pending[: index + 1 - len(stop)]
        keep = len(pending) - max(matcher.matched for matcher in self._matchers)
        self._held = pending[keep:]
        return pending[:keep]

    def _advance(self, character: str) -> str:
        """The longest stop string that ``character`` completes, if any does."""
        done = ""
        for matcher in self._matchers:
            if matcher.advance(character) and len(matcher.stop) > len(done):
                done = matcher.stop
        return done


class _StopMatcher:
    """Knuth-Morris-Pratt: ``matched`` is how much of ``stop`` the text so far ends with; constant work a character."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        # failure[n]: the longest proper prefix of stop that the first n characters of stop end with.
        self._failure = [0] * (len(stop) + 1)
        length = 0
        for n in range(2, len(stop) + 1):
            while length and stop[n - 1] != stop[length]:
                length = self._failure[length]
            if stop[n - 1] == stop[length]:
                length += 1
            self._failure[n] = length

    def advance(self, character: str) -> bool:
        """Whether ``stop`` is complete with this character."""
        matched = self.matched
        while matched and character != self.stop[matched]:
            matched = self._failure[matched]
        if character == self.stop[matched]:
            matched += 1
        self.matched = matched
        return matched == len(self.stop)
