"""How the engines of language models do now: one line each in `appliance status`, sentences in `models show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli import output

if TYPE_CHECKING:
    from appliance.pb.appliance.v1 import admin_pb2

COLUMNS: list[tuple[str, output.Justify]] = [
    ("LANGUAGE MODEL", "left"),
    ("RUNNING", "right"),
    ("WAITING", "right"),
    ("KV TOKENS", "right"),
    ("PREFIX HITS", "right"),
    ("TOKENS/S", "right"),
    ("STEP", "right"),
]


def rows(models: list[admin_pb2.ModelStatus]) -> list[list[str]]:
    """One line for each language model whose engine runs."""
    return [_row(model) for model in models if model.pid and model.counters.HasField("language")]


def _row(model: admin_pb2.ModelStatus) -> list[str]:
    counters, facts = model.counters, model.counters.language
    calls = facts.prefix_hits + facts.prefix_misses
    return [
        f"{model.name} {model.version}",
        output.count(counters.running),
        ("~" if counters.waiting else "") + output.count(counters.waiting),
        _share(facts) if facts.kv_tokens else "-",
        f"{output.count(facts.prefix_hits)} {_percent(facts.prefix_hits, calls)}" if calls else "-",
        rate(facts.tokens_per_second),
        step(facts.step_ns),
    ]


def _share(facts: admin_pb2.LanguageFacts) -> str:
    used, room = facts.kv_used, facts.kv_tokens
    return f"{output.count(used)}/{output.count(room)} {_percent(used, room)}"


def sentences(counters: admin_pb2.EngineCounters) -> list[tuple[str, str]]:
    """The same and more, as facts with names; empty where there is nothing to say."""
    if not counters.HasField("language"):
        return []
    facts = counters.language
    calls = facts.prefix_hits + facts.prefix_misses
    return [
        ("now", f"{counters.running} running, {counters.waiting} waiting"),
        (
            "KV cache",
            f"{facts.kv_used} of {facts.kv_tokens} tokens taken ({_percent(facts.kv_used, facts.kv_tokens)}), "
            f"{facts.kv_kept} of them kept for prompts that begin the same"
            if facts.kv_tokens
            else "",
        ),
        (
            "prefixes",
            f"{facts.prefix_hits} of {calls} calls found the beginning of their prompt computed, "
            f"{facts.prefix_tokens_saved} tokens saved"
            if calls
            else "",
        ),
        ("speed", f"{rate(facts.tokens_per_second)} tokens/s, {step(facts.step_ns)} a step" if facts.step_ns else ""),
        (
            "guessed",
            f"{facts.accepted_tokens} of {facts.drafted_tokens} tokens were right "
            f"({_percent(facts.accepted_tokens, facts.drafted_tokens)})"
            if facts.drafted_tokens
            else "",
        ),
        ("set back", f"{facts.preempted_count} calls, the KV cache being full" if facts.preempted_count else ""),
    ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part // whole}%" if whole else "-"


def rate(per_second: float) -> str:
    """``0``, ``9.8``, ``120``."""
    return f"{per_second:.1f}" if 0 < per_second < 99.95 else f"{per_second:.0f}"


def step(nanoseconds: int) -> str:
    """``9.8 ms``, ``120 ms``; a dash when no step was measured."""
    milliseconds = nanoseconds / 1e6
    if not nanoseconds:
        return "-"
    return f"{milliseconds:.1f} ms" if milliseconds < 99.95 else f"{milliseconds:.0f} ms"
