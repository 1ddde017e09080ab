"""The tree's operations on the real llama.cpp: shared cells give the logits that computed ones give."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from tiny_gguf import write_tiny_gguf

from appliance.engine.llama.cache.tree import Op, PrefixTree, SeqIds, Share
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.native import C
from appliance.model_spec import LlamaOptions

IDS = 8
CELLS = 256


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    loaded = LlamaModel(write_tiny_gguf(tmp_path_factory.mktemp("model") / "model.gguf"), LlamaOptions())
    yield loaded
    loaded.close()


class Bench:
    """The real cells behind a tree, and a second context that computes everything from its beginning."""

    def __init__(self, model: LlamaModel) -> None:
        self.context = Context(model, tokens=CELLS, batch_tokens=64, threads=1, sequences=IDS)
        self.plain = Context(model, tokens=CELLS, batch_tokens=64, threads=1, sequences=1)
        self.ids = SeqIds(IDS)
        self.tree = PrefixTree(self.ids)

    def carry_out(self, ops: list[Op]) -> None:
        for op in ops:
            if isinstance(op, Share):
                self.context.share(op.source, op.target, op.start, op.end)
            else:
                assert self.context.cut(op.seq_id, op.start, op.end)

    def run(self, tokens: list[int], *, publish: bool) -> None:
        """One sequence from its first token to its last; its logits must be those of the plain context."""
        if not self.ids.free:
            self.carry_out(self.tree.evict_id())
        seq_id = self.ids.take()
        assert seq_id is not None
        reused = self.tree.longest("", tokens, len(tokens) - 1)
        ops, hold = self.tree.share("", tokens, reused, seq_id)
        self.carry_out(ops)
        self.carry_out(self.tree.evict(max(0, self.tree.tokens + len(tokens) - CELLS))[0])
        middle = (reused + len(tokens)) // 2
        if publish and middle > reused:
            decode(self.context, seq_id, tokens[:middle], reused)
            ops, hold, reused = self.tree.insert("", tokens[:middle], seq_id, hold)
            self.carry_out(ops)
            reused = middle
        got = decode(self.context, seq_id, tokens, reused)
        self.plain.clear()
        np.testing.assert_allclose(got, decode(self.plain, 0, tokens, 0), atol=0.02)
        self.carry_out(self.tree.adopt("", tokens, seq_id, hold))

    def check_positions(self) -> None:
        memory = C.llama_get_memory(self.context.handle)
        spans = {node.seq_id: (node.start, node.end - 1) for node in self.tree._nodes.values()}
        for seq_id in range(IDS):
            found = C.llama_memory_seq_pos_min(memory, seq_id), C.llama_memory_seq_pos_max(memory, seq_id)
            assert found == spans.get(seq_id, (-1, -1))

    def close(self) -> None:
        self.context.close()
        self.plain.close()


def decode(context: Context, seq_id: int, tokens: list[int], start: int) -> np.ndarray:
    context.batch.clear()
    index = context.batch.add(tokens[start:], start, seq_id, output_last=True)
    assert context.decode() is Decoded.DONE
    return context.logits(index).copy()


@pytest.mark.parametrize("seed", range(4))
def test_random_sequences(model: LlamaModel, seed: int) -> None:
    draw = random.Random(seed)
    bench = Bench(model)
    beginnings = [[draw.randrange(256) for _ in range(draw.randrange(1, 30))] for _ in range(4)]
    for _ in range(40):
        tokens = draw.choice(beginnings)[: draw.randrange(1, 30)]
        tokens = tokens + [draw.randrange(256) for _ in range(draw.randrange(1, 20))]
        bench.run(tokens, publish=draw.random() < 0.5)
        beginnings.append(tokens)
        bench.check_positions()
    bench.close()


def test_a_wrong_prefix_would_be_seen(model: LlamaModel) -> None:
    bench = Bench(model)
    one = decode(bench.plain, 0, [1, 2, 3, 4], 0)
    bench.plain.clear()
    other = decode(bench.plain, 0, [9, 2, 3, 4], 0)
    assert np.abs(one - other).max() > 0.1
    bench.close()
