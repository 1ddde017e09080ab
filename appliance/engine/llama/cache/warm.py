"""Pinned prefixes made ready when a model is loaded: read from disk where they were kept, else computed and kept."""

import logging
from collections.abc import Sequence
from pathlib import Path

from appliance import limits
from appliance.engine.base import LoadOptions
from appliance.engine.llama.cache.kv_cache import KvCache, Seat
from appliance.engine.llama.cache.spill import PrefixFiles
from appliance.engine.llama.context import Context, Decoded
from appliance.errors import FailedPrecondition

_log = logging.getLogger(__name__)
_SPACE = ""  # prefixes are computed without an adapter


def warm_prefixes(context: Context, cache: KvCache, pinned: Sequence[list[int]], options: LoadOptions) -> None:
    """Puts every prefix of ``pinned`` into the cache and pins it there. FailedPrecondition when it cannot be computed."""
    if not options.cache_dir:
        for tokens in pinned:
            _pin(context, cache, tokens, None)
        return
    files = PrefixFiles(Path(options.cache_dir), context, options.digest)
    for tokens in pinned:
        _pin(context, cache, tokens, files)
    files.prune([(tokens, _SPACE) for tokens in pinned])


def _pin(context: Context, cache: KvCache, tokens: list[int], files: PrefixFiles | None) -> None:
    seat = _restored(cache, tokens, files) if files else None
    if seat is None:
        seat = _enter(cache, tokens)
        _compute(context, seat, tokens)
        if files:
            files.save(seat.seq_id, tokens, _SPACE)
    cache.publish(seat, tokens)
    cache.tree.pin(_SPACE, tokens)
    cache.leave(seat, tokens)


def _restored(cache: KvCache, tokens: list[int], files: PrefixFiles) -> Seat | None:
    """A seat with the whole prefix from disk: one that shares nothing, whatever the cache has of it already."""
    seat = _enter(cache, [])
    if files.restore(seat.seq_id, tokens, _SPACE):
        seat.position = len(tokens)
        return seat
    cache.leave(seat, [])
    return None


def _enter(cache: KvCache, tokens: list[int]) -> Seat:
    seat = cache.enter(_SPACE, tokens)
    if seat is None:
        raise FailedPrecondition("no sequence is left for llama.pinned: name fewer prefixes", reason="PINNED_PREFIX")
    return seat


def _compute(context: Context, seat: Seat, tokens: list[int]) -> None:
    batch = context.batch
    room = min(batch.capacity, limits.prefill_step_tokens_max)
    while seat.position < len(tokens):
        part = tokens[seat.position : seat.position + room]
        batch.clear()
        batch.add(part, seat.position, seat.seq_id, output_last=True)
        outcome = context.decode()
        if outcome is not Decoded.DONE:
            raise FailedPrecondition(
                f"the pinned prefix of {len(tokens):,} tokens cannot be computed ({outcome.value})",
                reason="PINNED_PREFIX",
            )
        seat.position += len(part)
        _log.info("pinned prefix: %d of %d tokens", seat.position, len(tokens))
