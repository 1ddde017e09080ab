"""Seats and room over llama.cpp's real cache: what is shared is counted once, and what leaves is kept until needed."""

import pytest
from llama_harness import make_spec
from tiny_gguf import write_tiny_gguf

from appliance.engine.llama.cache.kv_cache import KvCache
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel

CELLS, IDS = 256, 4
PROMPT = list(range(40, 60))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = write_tiny_gguf(tmp_path_factory.mktemp("kv") / "m.gguf", context=CELLS)
    made = LlamaModel(path, make_spec().llama)
    yield made
    made.close()


@pytest.fixture
def context(model):
    made = Context(model, tokens=CELLS, batch_tokens=64, threads=1, sequences=IDS)
    yield made
    made.close()


@pytest.fixture
def cache(context):
    return KvCache(context, CELLS, IDS, shares=True)


def compute(context, seat, tokens):
    context.batch.clear()
    context.batch.add(tokens[seat.position :], seat.position, seat.seq_id, output_last=True)
    assert context.decode() is Decoded.DONE
    seat.position = len(tokens)


def test_an_empty_cache_is_all_room(cache):
    assert (cache.used, cache.kept, cache.free, cache.room) == (0, 0, CELLS, CELLS)
    assert cache.reusable("", PROMPT) == 0


def test_what_a_seat_computes_is_used_and_what_it_leaves_is_kept(cache, context):
    seat = cache.enter("", PROMPT)
    compute(context, seat, PROMPT)
    assert (cache.used, cache.kept) == (20, 0)
    cache.leave(seat, PROMPT)
    assert (cache.used, cache.kept, cache.room) == (20, 20, CELLS)
    assert cache.reusable("", PROMPT) == 19  # the last one's logits are wanted
    assert cache.reusable("", [*PROMPT, 1]) == 20
    assert cache.reusable("adapter", PROMPT) == 0


def test_a_published_prompt_is_shared_while_its_owner_runs(cache, context):
    first = cache.enter("", PROMPT)
    compute(context, first, PROMPT)
    cache.publish(first, PROMPT)
    second = cache.enter("", [*PROMPT, 9])
    assert second.position == 20
    compute(context, second, [*PROMPT, 9])
    assert cache.used == 21
    cache.leave(first, PROMPT)
    assert cache.used == 21
    cache.leave(second, [*PROMPT, 9])
    assert (cache.used, cache.kept) == (21, 21)


def test_guesses_that_were_not_taken_leave_nothing_behind(cache, context):
    seat = cache.enter("", PROMPT)
    compute(context, seat, [*PROMPT, 1, 2, 3])
    seat.position = 21  # two guesses were wrong
    cache.leave(seat, [*PROMPT, 1])
    assert cache.used == 21
    again = cache.enter("", [*PROMPT, 1, 5])
    compute(context, again, [*PROMPT, 1, 5])
    assert cache.used == 22


def test_room_is_made_of_what_was_not_used_for_longest(cache, context):
    for start in (0, 100):
        tokens = list(range(start, start + 50))
        seat = cache.enter("", tokens)
        compute(context, seat, tokens)
        cache.leave(seat, tokens)
    assert cache.make_room(CELLS - 60)
    assert cache.reusable("", [*range(100, 150), 7]) == 50
    assert cache.reusable("", [*range(50), 7]) == 10
    assert cache.make_room(CELLS)
    assert cache.used == 0


def test_a_running_seats_cells_are_never_taken(cache, context):
    seat = cache.enter("", PROMPT)
    compute(context, seat, PROMPT)
    cache.publish(seat, PROMPT)
    assert not cache.make_room(CELLS)
    assert cache.make_room(CELLS - 20)
    assert cache.used == 20


def test_ids_are_taken_from_kept_prefixes_when_none_is_left(cache, context):
    for start in range(IDS):
        tokens = [start * 20 + i for i in range(10)]
        seat = cache.enter("", tokens)
        compute(context, seat, tokens)
        cache.leave(seat, tokens)
    seats = [cache.enter("", [250, 251]) for _ in range(IDS)]
    assert None not in seats
    assert len({seat.seq_id for seat in seats}) == IDS
    assert cache.enter("", [250]) is None
    for seat in seats:
        cache.leave(seat, [])
    assert cache.used == 0


def test_without_sharing_nothing_is_kept(context):
    cache = KvCache(context, CELLS, IDS, shares=False)
    seat = cache.enter("", PROMPT)
    compute(context, seat, PROMPT)
    cache.publish(seat, PROMPT)
    assert cache.reusable("", PROMPT) == 0
    cache.leave(seat, PROMPT)
    assert (cache.used, cache.kept) == (0, 0)
