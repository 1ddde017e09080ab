"""One server, or several in turns: rounds A B C A B C, medians over the rounds, a table, and the first one's ratios."""

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.stats import HIGHER_IS_BETTER, Summary, median_of, ratios


@dataclass(frozen=True)
class Outcome:
    """All rounds of one case ("64 in flight"), by server in the order in which they were given."""

    case: str
    rounds: dict[str, list[Summary]]

    @property
    def medians(self) -> dict[str, Summary]:
        """Median figures of each server."""
        return {label: median_of(rounds) for label, rounds in self.rounds.items()}

    @property
    def ratio(self) -> dict[str, float] | None:
        """First server divided by second; None with one server."""
        if len(self.rounds) != 2:
            return None
        return next(iter(self.ratios.values()))

    @property
    def ratios(self) -> dict[str, dict[str, float]]:
        """First server divided by each of the others."""
        (_, first), *others = self.medians.items()
        return {label: ratios(first, other) for label, other in others}


def in_turns(case: str, runs: dict[str, Callable[[], Summary]], rounds: int) -> Outcome:
    """Run every server once a round, so that a machine that slows down meanwhile slows all of them."""

    def as_list(run: Callable[[], Summary]) -> Callable[[], list[Summary]]:
        return lambda: [run()]

    return cases_in_turns([case], {label: as_list(run) for label, run in runs.items()}, rounds)[0]


def cases_in_turns(cases: list[str], runs: dict[str, Callable[[], list[Summary]]], rounds: int) -> list[Outcome]:
    """As in_turns, where one run has a summary for each of several cases, such as the cold start and what follows it."""
    outcomes = [Outcome(case, {label: [] for label in runs}) for case in cases]
    for number in range(1, rounds + 1):
        for label, run in runs.items():
            for outcome, summary in zip(outcomes, run(), strict=True):
                outcome.rounds[label].append(summary)
                name, value = next(iter(summary.figures.items()))
                print(f"  {outcome.case}, round {number}/{rounds}, {label}: {name} {value:,.1f}", file=sys.stderr)
                if summary.calls == 0 and not summary.errors:
                    print(f"  {label}: no call fell into the measured window; lengthen --duration", file=sys.stderr)
    return outcomes


def shown(value: float) -> str:
    """A figure in at most a few digits; "-" for what was not measured."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def errors_text(errors: dict[str, int]) -> str:
    """Failed calls by code, "0" when there were none."""
    return ", ".join(f"{code} {count:,}" for code, count in sorted(errors.items())) or "0"


def table(outcomes: list[Outcome], columns: list[str]) -> str:
    """A Markdown table, so that it can go into a README as it is."""
    rows = [["case", "server", "driver", *columns, "errors"]]
    for outcome in outcomes:
        for label, summary in outcome.medians.items():
            figures = [shown(summary.figures.get(name, math.nan)) for name in columns]
            rows.append([outcome.case, label, summary.driver, *figures, errors_text(summary.errors)])
        for label, ratio in outcome.ratios.items():
            figures = [shown(ratio.get(name, math.nan)) for name in columns]
            rows.append([outcome.case, "ratio" if len(outcome.ratios) == 1 else f"ratio / {label}", "", *figures, ""])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def legend(outcomes: list[Outcome]) -> str:
    """What the ratio lines mean; empty with one server."""
    first = outcomes[0]
    if not first.ratios:
        return ""
    ours, *others = first.rounds
    better = [name for name in next(iter(first.ratios.values())) if name in HIGHER_IS_BETTER]
    rates = f"above 1 favours {ours} in {', '.join(better)}; " if better else ""
    return f"ratio = {ours} / {' or '.join(others)}: {rates}below 1 favours it in the times."


def as_json(outcomes: list[Outcome], context: dict[str, object]) -> str:
    """Everything, each round included; nan becomes null."""
    cases = [
        {
            "case": outcome.case,
            "median": {label: summary.as_json() for label, summary in outcome.medians.items()},
            "rounds": {label: [one.as_json() for one in many] for label, many in outcome.rounds.items()},
            "ratio": outcome.ratio,
            "ratios": outcome.ratios,
        }
        for outcome in outcomes
    ]
    return json.dumps(_without_nan({**context, "cases": cases}), indent=2)


def _without_nan(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return value


def exit_status(outcomes: list[Outcome]) -> int:
    """0 when every round has calls and none failed, else 1: a rate with errors in it is not a result."""
    every = [one for outcome in outcomes for rounds in outcome.rounds.values() for one in rounds]
    return int(any(one.errors or one.calls == 0 for one in every))


def report(outcomes: list[Outcome], columns: list[str], options: Mapping[str, object], *, as_document: bool) -> int:
    """Prints one JSON document, or the table and what its ratio means; returns the exit status."""
    return report_sections([(outcomes, columns)], options, as_document=as_document)


def report_sections(
    sections: list[tuple[list[Outcome], list[str]]], options: Mapping[str, object], *, as_document: bool
) -> int:
    """As report, with a table for each section: outcomes that have the same columns."""
    every = [outcome for outcomes, _ in sections for outcome in outcomes]
    if as_document:
        print(as_json(every, {"options": options}))
    else:
        for outcomes, columns in sections:
            print(table(outcomes, columns))
            print(legend(outcomes))
    return exit_status(every)
