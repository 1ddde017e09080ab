"""A model's vocabulary: text to token ids and token ids to pieces of text."""

import ctypes
import re
import secrets
from typing import Any

from appliance.engine.llama.native import C
from appliance.errors import InternalError, InvalidArgument

_PIECE_BYTES = 256
# What tokenizing with parse_special reads as one token: LLAMA_TOKEN_ATTR_UNKNOWN | LLAMA_TOKEN_ATTR_CONTROL.
_SPECIAL = C.LLAMA_TOKEN_ATTR_UNKNOWN | C.LLAMA_TOKEN_ATTR_CONTROL


class Vocab:
    """The vocabulary of a loaded model, which must outlive it."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.size: int = C.llama_vocab_n_tokens(handle)
        self.bos: int = C.llama_vocab_bos(handle)
        self.eos: int = C.llama_vocab_eos(handle)
        self._pieces: dict[int, bytes] = {}
        self._buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        self._shown: dict[int, bytes] = {}
        # What the model may mean by "I am done".
        self.turn_ends = [token for token in range(self.size) if C.llama_vocab_is_eog(handle, token)]
        self._turn_ends = frozenset(self.turn_ends)
        longest, specials = self._scan()
        self._bytes_per_token_max = longest
        self._special = re.compile(f"(?={'|'.join(map(re.escape, specials))})") if specials else None

    def _scan(self) -> tuple[int, list[str]]:
        longest, specials = 1, []
        for token in range(self.size):
            text: bytes = C.llama_vocab_get_text(self._handle, token) or b""
            longest = max(longest, len(text))
            if C.llama_vocab_get_attr(self._handle, token) & _SPECIAL and len(text) > 1:
                specials.append(text.decode(errors="replace"))
        # Only byte-level BPE and SentencePiece give each byte of the text to some token; other kinds may drop some.
        kept = C.llama_vocab_type(self._handle) in (C.LLAMA_VOCAB_TYPE_SPM, C.LLAMA_VOCAB_TYPE_BPE)
        return (longest if kept else 0), specials

    def text(self, token: int) -> str:
        """How a token is written in a template; "" for one that the model doesn't have (-1)."""
        if token < 0:
            return ""
        return (C.llama_vocab_get_text(self._handle, token) or b"").decode(errors="replace")

    def ends_turn(self, token: int) -> bool:
        """Whether the model means by ``token`` that it is done (end of text, of turn, of message)."""
        return token in self._turn_ends

    def piece(self, token: int) -> bytes:
        """The bytes that ``token`` adds to the text; none for control tokens. May be a part of a UTF-8 character."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read_piece(token, special=False)
        return known

    def shown_piece(self, token: int) -> bytes:
        """As ``piece``, but control tokens are written out, as whoever reads tool calls wants them."""
        known = self._shown.get(token)
        if known is None:
            known = self._shown[token] = self._read_piece(token, special=True)
        return known

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        count = C.llama_token_to_piece(self._handle, token, self._buffer, len(self._buffer), 0, special)
        if count < 0:
            self._buffer = ctypes.create_string_buffer(-count)
            count = C.llama_token_to_piece(self._handle, token, self._buffer, len(self._buffer), 0, special)
        return self._buffer.raw[: max(count, 0)]

    def tokens_at_least(self, text: bytes) -> int:
        """A number of tokens that ``text`` has in any case, without tokenizing it."""
        return len(text) // self._bytes_per_token_max if self._bytes_per_token_max else 0

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> list[int]:
        """The token ids of ``text`` (UTF-8).

        ``add_special`` puts what the model wants around every text; ``parse_special`` reads control tokens as such.
        """
        room = len(text) + 8
        tokens = (C.llama_token * room)()
        count = C.llama_tokenize(self._handle, text, len(text), tokens, room, add_special, parse_special)
        if count < 0 and -count <= 16 * room:
            room = -count
            tokens = (C.llama_token * room)()
            count = C.llama_tokenize(self._handle, text, len(text), tokens, room, add_special, parse_special)
        if count < 0:
            raise InternalError("the tokenizer failed on this text")
        return list(tokens[:count])

    def mark_special(self, text: str, mark: str) -> str:
        """``text`` with ``mark`` inside of everything that reads like a control token: see ``tokenize_marked``."""
        return _insert(text, self._special, mark) if self._special else text

    def tokenize_marked(self, text: str, mark: str, *, add_special: bool) -> list[int]:
        """Tokens of ``text`` with control tokens read as such, except where ``mark`` splits them.

        So a message that holds "<|im_end|>" stays text and cannot end its turn: prompt injection by control token.
        """
        tokens: list[int] = []
        for index, part in enumerate(text.split(mark)):
            tokens += self.tokenize(part.encode(), add_special=add_special and index == 0, parse_special=True)
        return tokens


def _insert(text: str, starts: "re.Pattern[str]", mark: str) -> str:
    parts, last = [], 0
    for match in starts.finditer(text):
        parts.append(text[last : match.start() + 1])
        last = match.start() + 1
    return mark.join([*parts, text[last:]])


def new_mark() -> str:
    """A text that nobody can have written into a message before.

    Digits come through whatever a template does with its strings: JSON with escapes, repr(), upper case.
    """
    return f"{secrets.randbelow(10**32):032}"


def utf8(text: str, what: str) -> bytes:
    """The bytes of ``text``; InvalidArgument for lone surrogates, which no UTF-8 holds."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is not valid Unicode") from None
