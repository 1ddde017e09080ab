"""Which tokens are in the KV cache, and for whom: a radix tree over token ids, one root for each adapter.

A running sequence has, under its own id, the cells of its path (shared, not copied) and behind them its own. So the
tree knows without asking what is held, and each token of it takes one cell whoever shares it.

The tree computes nothing and touches no cache: it answers with operations that the caller carries out in their order
before anything else (``Context.share`` and ``Context.cut``). In each node the part up to the furthest holder is locked;
only what lies behind may be evicted: leaves first, the least recently used first, from their ends.
"""

import heapq
from collections.abc import Iterator, Sequence

from appliance.engine.llama.cache.cells import Cut, Op, PinnedPath, SeqIds, Share, Span
from appliance.engine.llama.cache.nodes import Hold, Node, path_to, shares, walk

__all__ = ["Cut", "Hold", "Op", "PinnedPath", "PrefixTree", "SeqIds", "Share", "Span"]


class PrefixTree:
    """The tokens that the cache holds for others to share. ``ids``: where its nodes get their sequence ids."""

    def __init__(self, ids: SeqIds) -> None:
        self._ids = ids
        self._roots: dict[str, Node] = {}
        self._nodes: dict[int, Node] = {}
        self._pins: dict[tuple[str, tuple[int, ...]], Hold] = {}
        self._clock = 0
        self._locked = 0
        self.tokens = 0

    @property
    def evictable_tokens(self) -> int:
        """Tokens that ``evict`` could free now."""
        return self.tokens - self._locked

    @property
    def pinned_tokens(self) -> int:
        """Tokens that no eviction can ever free, each counted once."""
        furthest: dict[int, int] = {}
        for path in self.pinned():
            for span in path.spans:
                furthest[span.seq_id] = max(furthest.get(span.seq_id, 0), span.end - span.start)
        return sum(furthest.values())

    def longest(self, space: str, tokens: Sequence[int], most: int) -> int:
        """How many of the first ``most`` tokens the tree holds."""
        root = self._roots.get(space)
        return walk(root, tokens, most)[1] if root else 0

    def share(self, space: str, tokens: Sequence[int], length: int, target: int) -> tuple[list[Op], Hold]:
        """Gives the sequence ``target``, which has no cells there, the first ``length`` tokens, and holds them for it.

        ValueError when the tree does not hold so many of them (``longest`` says how many it holds).
        """
        node, at = walk(self._root(space), tokens, length)
        if at != length:
            raise ValueError(f"the tree holds {at} tokens of the {length} to share")
        self._touch(node)
        return shares(node, 0, length, target), self._hold(node, length)

    def release(self, hold: Hold) -> None:
        """Ends a hold; its tokens stay until they are evicted. ValueError when it has ended before."""
        node = hold.node
        if node is None:
            raise ValueError("the hold has been released already")
        hold.node = None
        node.holds.remove(hold)
        self._relock(node)
        self._count_below(node, -1)

    def insert(self, space: str, tokens: Sequence[int], source: int, hold: Hold) -> tuple[list[Op], Hold, int]:
        """Takes in what ``source``, which runs on, has computed: ``tokens`` are all its tokens, ``hold`` is its own.

        What the tree got from somebody else meanwhile replaces the source's own cells. Gives also the source's new hold
        and how many of the tokens the tree holds now: all, or fewer when no sequence id can be had for the rest, which
        then stays the source's alone.
        """
        node, at = self._match(space, tokens, hold)
        ops: list[Op] = []
        if at > hold.length:
            ops.append(Cut(source, hold.length, at))
            ops += shares(node, hold.length, at, source)
        held = self._move(hold, node, at)
        needed = 0 if at == node.end and node.extendable else 1 + (at < node.end)
        if at == len(tokens) or not self._have_ids(needed, ops):
            return ops, held, at
        node = self._split(node, at, ops)
        if not node.extendable:
            node = self._add(node, self._take_id(), at, [])
        ops.append(Share(source, node.seq_id, at, len(tokens)))
        self._extend(node, tokens[at:])
        return ops, self._move(held, node, len(tokens)), len(tokens)

    def adopt(self, space: str, tokens: Sequence[int], source: int, hold: Hold) -> list[Op]:
        """Keeps what ``source``, which has ended, computed, as far as it is new. Its id becomes a node's or is free."""
        node, at = self._match(space, tokens, hold)
        ops: list[Op] = []
        held = self._move(hold, node, at)
        self._touch(node)
        new = tokens[at:]
        if new and self._have_ids(at < node.end, ops):
            node = self._split(node, at, ops)
            if node.extendable:
                ops.append(Share(source, node.seq_id, at, len(tokens)))
                self._extend(node, new)
            else:
                self._extend(self._add(node, source, at, []), new)
                ops += [Cut(source, 0, at)] if at else []
                source = -1
        if source >= 0:
            ops.append(Cut(source, 0))
            self._ids.give(source)
        self.release(held)
        return ops

    def evict(self, tokens: int) -> tuple[list[Op], int]:
        """Frees ``tokens`` cells, or as many as can be; gives also how many."""
        ops: list[Op] = []
        freed = 0
        for leaf in self._leaves_by_age():
            if freed >= tokens:
                break
            count = min(len(leaf.tokens) - leaf.locked, tokens - freed)
            freed += count
            ops.append(self._trim(leaf, count))
        return ops, freed

    def evict_id(self) -> list[Op]:
        """Frees one sequence id by dropping the leaf that was used least recently; no operations: there is none."""
        for leaf in self._leaves_by_age():
            if not leaf.locked:
                return [self._trim(leaf, len(leaf.tokens))]
        return []

    def pin(self, space: str, tokens: Sequence[int]) -> None:
        """These tokens, which the tree must hold (else ValueError), are never evicted."""
        node, at = walk(self._root(space), tokens, len(tokens))
        if at != len(tokens):
            raise ValueError(f"the tree holds {at} tokens of the {len(tokens)} to pin")
        key = (space, tuple(tokens))
        if key not in self._pins:
            self._pins[key] = self._hold(node, at)

    def pinned(self) -> list[PinnedPath]:
        """The pinned prefixes, in the order of their pinning."""
        paths = []
        for (space, tokens), hold in self._pins.items():
            spans = [Span(n.seq_id, n.start, min(n.end, hold.length)) for n in path_to(hold.node)]
            paths.append(PinnedPath(space, tokens, tuple(spans)))
        return paths

    def clear(self) -> list[Op]:
        """Forgets everything, pins included. Holds end, too; releasing them is an error then."""
        ops: list[Op] = []
        for node in [*self._roots.values(), *self._nodes.values()]:
            for hold in node.holds:
                hold.node = None
        for seq_id in self._nodes:
            ops.append(Cut(seq_id, 0))
            self._ids.give(seq_id)
        self._roots, self._nodes, self._pins = {}, {}, {}
        self.tokens = self._locked = 0
        return ops

    # --- structure ---------------------------------------------------------------------------------------------------

    def _root(self, space: str) -> Node:
        root = self._roots.get(space)
        if root is None:
            root = self._roots[space] = Node(None, -1, 0, [], 0)
        return root

    def _match(self, space: str, tokens: Sequence[int], hold: Hold) -> tuple[Node, int]:
        node, at = walk(self._root(space), tokens, len(tokens))
        if at < hold.length:
            raise ValueError(f"the hold is of {hold.length} tokens, of which {len(tokens)} given ones share {at}")
        return node, at

    def _add(self, parent: Node, seq_id: int, start: int, tokens: list[int]) -> Node:
        node = self._nodes[seq_id] = Node(parent, seq_id, start, tokens, self._clock)
        return node

    def _extend(self, leaf: Node, tokens: Sequence[int]) -> None:
        if not leaf.tokens and leaf.parent:
            leaf.parent.children[tokens[0]] = leaf
        leaf.tokens.extend(tokens)
        self.tokens += len(tokens)
        self._touch(leaf)

    def _split(self, node: Node, at: int, ops: list[Op]) -> Node:
        """The node that ends at ``at``: a new one above the rest of ``node``, or ``node`` when it ends there."""
        if at == node.end or node.parent is None:
            return node
        size = at - node.start
        upper = self._add(node.parent, self._take_id(), node.start, node.tokens[:size])
        ops += [Share(node.seq_id, upper.seq_id, node.start, at), Cut(node.seq_id, node.start, at)]
        node.parent.children[node.tokens[0]] = upper
        upper.children[node.tokens[size]] = node
        node.parent, node.start = upper, at
        del node.tokens[:size]
        upper.holds = {hold for hold in node.holds if hold.length <= at}
        node.holds -= upper.holds
        for hold in upper.holds:
            hold.node = upper
        upper.below = node.below + len(node.holds)
        self._relock(node)
        self._relock(upper)
        return upper

    def _trim(self, leaf: Node, count: int) -> Op:
        """Takes ``count`` tokens off the leaf's end; what is empty then is gone."""
        self.tokens -= count
        first = leaf.tokens[0]
        del leaf.tokens[len(leaf.tokens) - count :]
        if leaf.tokens:
            return Cut(leaf.seq_id, leaf.end)
        if leaf.parent:
            del leaf.parent.children[first]
        del self._nodes[leaf.seq_id]
        self._ids.give(leaf.seq_id)
        return Cut(leaf.seq_id, 0)

    def _leaves_by_age(self) -> Iterator[Node]:
        """Leaves that have evictable tokens, the least recently used first; also those that became leaves meanwhile."""
        heap = [(n.used, n.seq_id) for n in self._nodes.values() if not n.children and n.locked < len(n.tokens)]
        heapq.heapify(heap)
        while heap:
            leaf = self._nodes[heapq.heappop(heap)[1]]
            parent = leaf.parent
            yield leaf
            if leaf.tokens or parent is None or not parent.extendable or parent.locked == len(parent.tokens):
                continue
            heapq.heappush(heap, (parent.used, parent.seq_id))

    # --- ids, holds and ages -----------------------------------------------------------------------------------------

    def _have_ids(self, needed: int, ops: list[Op]) -> bool:
        while self._ids.free < needed:
            more = self.evict_id()
            if not more:
                return False
            ops += more
        return True

    def _take_id(self) -> int:
        seq_id = self._ids.take()
        assert seq_id is not None  # _have_ids saw to it
        return seq_id

    def _touch(self, node: Node) -> None:
        self._clock += 1
        for step in path_to(node):
            step.used = self._clock

    def _hold(self, node: Node, length: int) -> Hold:
        hold = Hold(node, length)
        node.holds.add(hold)
        self._relock(node)
        self._count_below(node, 1)
        return hold

    def _move(self, hold: Hold, node: Node, length: int) -> Hold:
        moved = self._hold(node, length)
        self.release(hold)
        return moved

    def _count_below(self, node: Node, change: int) -> None:
        parent = node.parent
        while parent:
            parent.below += change
            self._relock(parent)
            parent = parent.parent

    def _relock(self, node: Node) -> None:
        if node.below:
            locked = len(node.tokens)
        else:
            locked = max((hold.length for hold in node.holds), default=node.start) - node.start
        self._locked += locked - node.locked
        node.locked = locked
