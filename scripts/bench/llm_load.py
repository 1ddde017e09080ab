"""K clients that ask a language model again and again, and what their streams come to."""

import contextlib
import itertools
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from bench.llm_clients import Ask, CallFailed, Client, connect
from bench.llm_prompts import Prompts
from bench.schedule import Phases
from bench.stats import Summary, percentile


@dataclass
class Call:
    """One streamed answer. ``arrivals_ns``: when each chunk that had text came; ``end_ns``: when the call was over."""

    start_ns: int
    arrivals_ns: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""
    end_ns: int = 0
    reused_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the answer as the server counted them; its chunks where the server tells no counts."""
        return self.completion_tokens or len(self.arrivals_ns)


def ask_once(
    client: Client, ask: Ask, prompt: str, call: Call | None = None, stop: threading.Event | None = None
) -> Call:
    """Stream one answer; failures are in ``error``. A stream without a last message is one.

    ``call`` is filled while the answer comes, for one who watches. After ``stop`` the next chunk is the last: the call is
    cancelled, and has not failed.
    """
    call = call or Call(0)
    call.start_ns, call.error = time.perf_counter_ns(), "EARLY_END"
    try:
        with contextlib.closing(client.stream(ask, prompt)) as chunks:
            for chunk in chunks:
                if chunk.text:
                    call.arrivals_ns.append(time.perf_counter_ns())
                if chunk.ended:
                    call.error = ""
                    call.prompt_tokens, call.completion_tokens = chunk.prompt_tokens, chunk.completion_tokens
                    call.reused_tokens, call.accepted_tokens = chunk.reused_tokens, chunk.accepted_tokens
                if stop is not None and stop.is_set():
                    call.error = ""
                    break
    except CallFailed as failed:
        call.error = failed.code
    call.end_ns = time.perf_counter_ns()
    return call


def run_clients(address: str, ask: Ask, prompts: Prompts, clients: int, phases: Phases) -> Summary:
    """Closed loop: each client starts its next call when its last one ended, until the window closes.

    Calls that run when it closes are finished, so that the load stays whole to its end; what they say after it is not
    counted.
    """
    calls: list[list[Call]] = [[] for _ in range(clients)]
    opens, closes = phases.window_ns(time.perf_counter_ns())

    def client_thread(number: int) -> None:
        client = connect(address)
        try:
            while time.perf_counter_ns() < closes:
                call = ask_once(client, ask, prompts.of(number, len(calls[number])))
                calls[number].append(call)
                if call.error:
                    time.sleep(0.05)  # a server that refuses at once must not be hammered
        finally:
            client.close()

    threads = [threading.Thread(target=client_thread, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summarise_calls([call for one in calls for call in one], opens, closes)


def _decode_rate(call: Call) -> float | None:
    """Tokens a second of one stream after its first chunk."""
    if len(call.arrivals_ns) < 2:
        return None
    share = (len(call.arrivals_ns) - 1) / len(call.arrivals_ns)
    return call.tokens * share / ((call.arrivals_ns[-1] - call.arrivals_ns[0]) / 1e9)


def summarise_calls(calls: list[Call], opens_ns: int, closes_ns: int) -> Summary:
    """Figures of the window.

    tokens_per_s: of all clients together; a chunk counts as its call's tokens divided by its call's chunks (a server
    may put two tokens into one message). ttft: call to first text, of calls begun in the window. gap: between chunks.
    """
    good = [call for call in calls if not call.error and call.arrivals_ns]
    tokens = 0.0
    gaps: list[float] = []
    for call in good:
        inside = [moment for moment in call.arrivals_ns if opens_ns <= moment < closes_ns]
        tokens += len(inside) * call.tokens / len(call.arrivals_ns)
        gaps += [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(inside)]
    begun = [call for call in good if opens_ns <= call.start_ns < closes_ns]
    ttft = np.asarray([(call.arrivals_ns[0] - call.start_ns) / 1e6 for call in begun], dtype=np.float64)
    rates = [rate for call in begun if (rate := _decode_rate(call)) is not None]
    gap = np.asarray(gaps, dtype=np.float64)
    figures = {
        "tokens_per_s": tokens / ((closes_ns - opens_ns) / 1e9),
        "stream_tokens_per_s": statistics.median(rates) if rates else float("nan"),
        "ttft_p50_ms": percentile(ttft, 50),
        "ttft_p99_ms": percentile(ttft, 99),
        "gap_p50_ms": percentile(gap, 50),
        "gap_p99_ms": percentile(gap, 99),
        "gap_max_ms": percentile(gap, 100),
        "prompt_tokens": (statistics.median(call.prompt_tokens for call in begun) if begun else 0) or float("nan"),
        "answer_tokens": statistics.median(call.tokens for call in begun) if begun else float("nan"),
    }
    errors = Counter(call.error for call in calls if call.error)
    return Summary(len(begun), "python", figures, dict(errors))
