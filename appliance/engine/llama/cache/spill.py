"""Computed prefixes on disk: written when they are computed, read at the next start instead of computing them again.

Nothing here is worth a failure: whatever is wrong with a file or with the folder is logged, and the prefix is computed
anew. What turns out to be damaged is set aside as .broken; what another version or model wrote is replaced.
"""

import ctypes
import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import msgspec

from appliance import events
from appliance.engine.llama.cache.spill_format import (
    START_BYTES,
    Header,
    Identity,
    Refused,
    check_file,
    check_start,
    seal,
    size_of,
)
from appliance.engine.llama.context import Context
from appliance.engine.llama.native import C
from appliance.osutil import durable

_log = logging.getLogger(__name__)
_SUFFIX = ".prefix"
_FAULTS = "prefix"


def identity_of(context: Context, digest: str) -> Identity:
    """What this context's states depend on; ``digest`` is of the model's version."""
    build = f"llama-cpp-python {llama_cpp.__version__}, sequence state {C.LLAMA_STATE_SEQ_VERSION}"
    return Identity(build, digest, context.tokens)


def can_spill(context: Context) -> bool:
    """Whether the states of this context's model hold every token of their prefix.

    With sliding windows llama.cpp saves only the tokens that the next one sees, and a prompt that shares a part of the
    prefix would miss others without a word. Recurrent models have no tokens to share at all.
    """
    model = C.llama_get_model(context.handle)
    return not (C.llama_model_n_swa(model) or C.llama_model_is_recurrent(model) or C.llama_model_is_hybrid(model))


class PrefixFiles:
    """The files of one model version's prefixes in ``folder``, which is made when something is saved.

    ``digest`` is the version's; without one, and for models whose states are no prefixes, nothing is read or written.
    """

    def __init__(self, folder: Path, context: Context, digest: str) -> None:
        self._folder = folder
        self._context = context
        self._identity = identity_of(context, digest)
        self._usable = bool(digest) and can_spill(context)

    def restore(self, seq_id: int, tokens: Sequence[int], space: str = "") -> bool:
        """Gives the sequence, which has no cells, the prefix's. False when there is no file that is sound and fits."""
        if not self._usable:
            return False
        header = self._header(tokens, space)
        path = self._path(header)
        try:
            payload = _read(path, header)
            if not _set_state(self._context, seq_id, payload, len(tokens)):
                raise Refused("has a state that llama.cpp does not take", damaged=False)
        except FileNotFoundError:
            return False
        except Refused as refused:
            _log.warning(
                "prefix of %d tokens is computed anew: %s %s",
                len(tokens),
                path.name,
                refused,
                extra=events.ENGINE_NO_CACHE.of(),
            )
            if refused.damaged:
                _set_aside(path)
            return False
        except (OSError, MemoryError) as error:
            _log.warning(
                "prefix of %d tokens is computed anew: %s",
                len(tokens),
                _reason(error),
                extra=events.ENGINE_NO_CACHE.of(),
            )
            return False
        _log.info("prefix of %d tokens was read from disk", len(tokens))
        return True

    def save(self, seq_id: int, tokens: Sequence[int], space: str = "") -> bool:
        """Writes the state of a sequence that has exactly ``tokens``. False when it cannot be written."""
        if not self._usable:
            return False
        header = self._header(tokens, space)
        try:
            file = _file_of(self._context, seq_id, header)
            if file is None:
                _log.warning(
                    "prefix of %d tokens is not kept: llama.cpp gives no state of it",
                    len(tokens),
                    extra=events.ENGINE_NO_CACHE.of(),
                )
                return False
            durable.mkdir(self._folder, 0o700)
            durable.write(self._path(header), file, mode=0o600, point=_FAULTS)
        except (OSError, MemoryError) as error:
            _log.warning(
                "prefix of %d tokens is not kept: %s", len(tokens), _reason(error), extra=events.ENGINE_NO_CACHE.of()
            )
            return False
        return True

    def prune(self, wanted: Iterable[tuple[Sequence[int], str]]) -> None:
        """Removes the files of all prefixes but these (tokens, space), and what a crash left half-written."""
        kept = {self._path(self._header(tokens, space)).name for tokens, space in wanted}
        try:
            for entry in list(os.scandir(self._folder)):
                stale = entry.name.endswith(_SUFFIX) and entry.name not in kept
                if stale or durable.is_temp(entry.name):
                    (self._folder / entry.name).unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("old prefixes cannot be removed: %s", _reason(error), extra=events.ENGINE_NO_CACHE.of())

    def _header(self, tokens: Sequence[int], space: str) -> Header:
        return Header(self._identity, space, tuple(tokens))

    def _path(self, header: Header) -> Path:
        name = hashlib.sha256(msgspec.msgpack.encode((header.space, header.tokens))).hexdigest()
        return self._folder / f"{name[:32]}{_SUFFIX}"


def _read(path: Path, wanted: Header) -> memoryview:
    """The payload of the file at ``path``. Raises Refused, OSError, MemoryError."""
    try:
        # A link is refused (ELOOP) and a pipe does not block.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"cannot be opened: {_reason(error)}", damaged=True) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("is no regular file", damaged=True)
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Refused("is owned by others, or they may write to it", damaged=True)
        return _read_checked(fd, status.st_size, wanted)
    finally:
        os.close(fd)


def _read_checked(fd: int, size: int, wanted: Header) -> memoryview:
    with open(fd, "rb", buffering=0, closefd=False) as file:
        start = file.read(START_BYTES)
        sizes = check_start(start, size, wanted)
        whole = memoryview(bytearray(size))
        whole[:START_BYTES] = start
        done = START_BYTES
        # read(2) gives at most 2 GiB at a time.
        while count := file.readinto(whole[done:]):
            done += count
    if done != size:
        raise Refused("became shorter while it was read", damaged=True)
    return check_file(whole, sizes, wanted)


def _file_of(context: Context, seq_id: int, header: Header) -> memoryview | None:
    """The whole file; the state is written where it belongs, so that it is in memory once."""
    size = C.llama_state_seq_get_size(context.handle, seq_id)
    if not size or not _has_exactly(context, seq_id, len(header.tokens)):
        return None
    file_bytes, begin = size_of(header, size)
    file = memoryview(bytearray(file_bytes))
    if C.llama_state_seq_get_data(context.handle, _native(file[begin:]), size, seq_id) != size:
        return None
    seal(file, header)
    return file


def _set_state(context: Context, seq_id: int, payload: memoryview, tokens: int) -> bool:
    """False, and the sequence empty, when llama.cpp refuses or does not find as many tokens as there should be."""
    taken = C.llama_state_seq_set_data(context.handle, _native(payload), len(payload), seq_id)
    if taken == len(payload) and _has_exactly(context, seq_id, tokens):
        return True
    context.cut(seq_id, 0)
    return False


def _has_exactly(context: Context, seq_id: int, tokens: int) -> bool:
    memory = C.llama_get_memory(context.handle)
    if not memory or not tokens:
        return False
    first, last = C.llama_memory_seq_pos_min(memory, seq_id), C.llama_memory_seq_pos_max(memory, seq_id)
    return bool(first == 0 and last == tokens - 1)


def _native(view: memoryview) -> Any:
    return (ctypes.c_uint8 * len(view)).from_buffer(view)


def _set_aside(path: Path) -> None:
    try:
        durable.set_aside(path)
    except OSError as error:
        _log.warning("%s cannot be set aside: %s", path.name, _reason(error), extra=events.ENGINE_NO_CACHE.of())


def _reason(error: OSError | MemoryError) -> str:
    return "no memory" if isinstance(error, MemoryError) else error.strerror or type(error).__name__
