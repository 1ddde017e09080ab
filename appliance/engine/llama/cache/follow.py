"""Whether a prompt should wait for another that is computing the same beginning right now. Pure.

Eight calls with one system prompt that come together would compute it eight times: instead the first computes it, and
the others start with what it has published.
"""

from collections.abc import Iterable, Sequence

from appliance import limits
from appliance.engine.llama.cache.nodes import common_prefix


def worth_waiting(tokens: Sequence[int], reusable: int, leaders: Iterable[tuple[Sequence[int], int]]) -> bool:
    """Whether one of ``leaders`` (tokens of its prompt, how many are computed) is going to spare this prompt work.

    ``reusable`` tokens of the prompt are in the cache already.
    """
    for leader, computed in leaders:
        shared = min(common_prefix(tokens, leader), len(tokens) - 1)
        if shared > computed and shared - reusable >= limits.follow_tokens_min:
            return True
    return False
