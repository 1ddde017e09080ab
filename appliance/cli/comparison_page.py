"""What `appliance models compare` prints."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from appliance.cli import output

if TYPE_CHECKING:
    from appliance.pb.appliance.v1.admin_pb2 import ComparedSide, ComparisonResponse

_COLUMNS: list[tuple[str, output.Justify]] = [
    ("", "left"),
    ("VERSION", "left"),
    ("CALLS", "right"),
    ("FAILED", "right"),
    ("MEDIAN", "right"),
    ("P99", "right"),
]
_TEXT_COLUMNS: list[tuple[str, output.Justify]] = [("TOKENS", "right"), ("TOKENS/S", "right"), ("FIRST", "right")]
_HOW = {"canary": "answers", "shadow": "is shown"}


def print_comparison(answer: ComparisonResponse) -> None:
    """One page; "-" where nothing is known."""
    what = _HOW.get(answer.mode, answer.mode)
    end = " or ".join(
        words
        for words, wanted in (
            (f"{answer.calls_wanted:,} calls", answer.calls_wanted),
            (output.duration(int(answer.seconds_wanted * 1000)), answer.seconds_wanted),
        )
        if wanted
    )
    until = f" until {end}" if end else ""
    who = "the rule decides" if answer.by_rule else "an operator decides"
    _say(f"{answer.name}: {answer.mode}, {answer.outcome}; {output.line(answer.reason) or who}")
    _say(f"{answer.candidate.version} {what} {answer.percent:g} % of the calls that name no version{until}")
    texts = bool(answer.active.tokens or answer.candidate.tokens)
    rows = [_row("active", answer.active, texts), _row("candidate", answer.candidate, texts)]
    output.table(_COLUMNS + (_TEXT_COLUMNS if texts else []), rows)
    for line in _lines(answer):
        _say(line)


def _say(text: str) -> None:
    for line in textwrap.wrap(text, 80):
        output.say(line)


def _row(what: str, side: ComparedSide, texts: bool) -> list[str]:
    failed = f"!{side.failed:,}" if side.failed else "0"
    row = [what, side.version, f"{side.calls:,}", failed, _ms(side.median_ms), _ms(side.p99_ms)]
    if texts:
        row += [f"{side.tokens:,}", f"{side.tokens_per_second:.3g}", _ms(side.first_piece_ms)]
    return row


def _lines(answer: ComparisonResponse) -> list[str]:
    lines = [f"{answer.taken:,} of {answer.offered:,} calls; {answer.pairs:,} answered by both"]
    if answer.retried:
        lines.append(f"{answer.retried:,} that the candidate could not answer, the active version did")
    if answer.classified:
        share = 100 * answer.agreed / answer.classified
        lines.append(f"{answer.agreed:,} of {answer.classified:,} say the same ({share:.1f} %)")
    if answer.numeric:
        lines.append(
            f"numbers differ by up to {answer.distance_max:.3g}; relative: up to {answer.relative_max:.3g}, "
            f"{answer.relative_mean:.3g} on average"
        )
    if answer.texts:
        lines.append(f"{answer.same_texts:,} of {answer.texts:,} texts are the same")
    if answer.unlike:
        lines.append(f"{answer.unlike:,} have other outputs or shapes")
    if answer.skipped or answer.dropped:
        lines.append(f"not copied: {answer.skipped:,} that can't be, {answer.dropped:,} as there was no room")
    return lines


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if value else "-"
