"""The publisher's rows taken apart: columns, target, those held back for golden tests, those that statistics are of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from appliance.errors import InvalidArgument
from appliance.publish.card import columns_text
from appliance.publish.estimators import Choices, Predictions, Subject, select
from appliance.publish.split import hold_back
from appliance.publish.table import Array, Column, Table, column, refused, table

_UNFIT = re.compile(r"[^A-Za-z0-9_]+")


class Wanted(Protocol):
    """The options that this module reads (export.ExportOptions)."""

    @property
    def target(self) -> Any: ...
    @property
    def held_back(self) -> Any: ...


@dataclass(frozen=True)
class Parts:
    """``table``: all rows without the target. ``apart``: how many of them, at the end, came apart as held-back rows."""

    table: Table
    target: Column | None
    apart: int
    held_back: tuple[int, ...] = ()
    reference: tuple[int, ...] = ()

    @property
    def output_name(self) -> str:
        """What a regressor's output is called: as its target, where that has a name."""
        name = _UNFIT.sub("_", self.target.name).strip("_") if self.target else ""
        return name or "prediction"

    def split(self, expected: Predictions, wanted: Wanted) -> "Parts":
        """Decides which rows are held back."""
        rows = self.table.rows
        if self.apart:
            return replace(
                self, held_back=tuple(range(rows - self.apart, rows)), reference=tuple(range(rows - self.apart))
            )
        held = hold_back(expected, wanted.held_back)
        if not held:
            raise refused(f"{rows} row: at least two are needed, one of them to be held back")
        return replace(self, held_back=tuple(held), reference=tuple(sorted(set(range(rows)) - set(held))))

    def target_of(self, rows: Sequence[int]) -> Column | None:
        """The target's values of these rows."""
        if self.target is None:
            return None
        return Column(self.target.name, self.target.kind, self.target.values[list(rows)])

    def score(self, expected: Predictions, classes: Sequence[int | str] | None = None) -> float | None:
        """Share of right labels, or R2, on rows that came apart; of others nobody knows whether it was trained on them."""
        told = self.target is not None and len(self.target.values) == self.table.rows
        return _score(self, expected, classes) if self.apart and told else None

    def facts(self, subject: Subject, expected: Predictions) -> list[str]:
        """Sentences for the card."""
        facts = [columns_text(subject.names or self.table.names)]
        facts.append(f"Statistics of {len(self.reference)} rows.")
        score = self.score(expected, subject.classes)
        if score is not None:
            what = f"{score:.1%} of the labels are right" if subject.classes else f"R2 = {score:.3f}"
            facts.append(f"On {self.apart} held-back rows: {what}.")
        return facts


def parts(subject: Subject, rows: Any, wanted: Wanted) -> Parts:
    """Raises InvalidArgument TABLE, naming the column or the number of rows that doesn't fit."""
    apart = not isinstance(wanted.held_back, int)
    if not apart and wanted.held_back < 1:
        raise InvalidArgument(
            f"held_back is {wanted.held_back}; at least one row must become a golden test", reason="HELD_BACK"
        )
    main = _with_target(table(rows), wanted.target)
    if not apart:
        return Parts(select(subject, main[0]), main[1], 0)
    other = _with_target(table(wanted.held_back), wanted.target if isinstance(wanted.target, str) else None)
    return Parts(
        _joined(select(subject, main[0]), select(subject, other[0])), _target(main[1], other[1]), other[0].rows
    )


def _with_target(rows: Table, target: Any) -> tuple[Table, Column | None]:
    if target is None:
        return rows, None
    if not isinstance(target, str):
        values = column("target", target)
        if len(values.values) != rows.rows:
            raise refused(f"the target has {len(values.values)} values for {rows.rows} rows")
        return rows, values
    if target not in rows.names:
        raise refused(f"there is no column {target!r}; the rows have {', '.join(map(repr, rows.names[:20]))}")
    at = rows.names.index(target)
    rest = tuple(c for c in rows.columns if c.name != target)
    if not rest:
        raise refused(f"beside the target {target!r} the rows have no column")
    if hasattr(rows.given, "iloc"):
        given: Any = rows.given.drop(columns=rows.given.columns[at])
    else:
        given = np.delete(rows.given, at, axis=1)
    return Table(rest, given), rows.columns[at]


def _joined(first: Table, second: Table) -> Table:
    columns = []
    for a, b in zip(first.columns, second.columns, strict=True):
        if (a.kind == "text") != (b.kind == "text"):
            raise refused(
                f"column {a.name!r} has texts only among {'these' if a.kind == 'text' else 'the held-back'} rows"
            )
        kind = a.kind if a.kind == b.kind else "number"
        columns.append(Column(a.name, kind, _chained(a.values, b.values)))
    if hasattr(first.given, "iloc"):
        import pandas as pd

        return Table(tuple(columns), pd.concat([first.given, second.given], ignore_index=True))
    return Table(tuple(columns), _chained(first.given, second.given))


def _chained(first: Array, second: Array) -> Array:
    return np.concatenate([first, second])


def _target(first: Column | None, second: Column | None) -> Column | None:
    if first is None or second is None:
        return first
    kind = first.kind if first.kind == second.kind else "number"
    return Column(first.name, kind, _chained(first.values, second.values))


def _score(given: Parts, expected: Predictions, classes: Sequence[int | str] | None) -> float | None:
    assert given.target is not None  # the caller has looked
    rows = list(given.held_back)
    truth = given.target.values[rows].tolist()
    if isinstance(expected, Choices):
        if classes is None or not set(truth) <= set(classes):
            return None  # the rows name classes in another way than the model
        said = [classes[i] for i in expected.labels[rows].tolist()]
        return float(np.mean([a == b for a, b in zip(said, truth, strict=True)]))
    if given.target.kind == "text":
        return None
    aim = np.array(truth, np.float64)
    spread = float(((aim - aim.mean()) ** 2).sum())
    return 1 - float(((aim - expected.values[rows]) ** 2).sum()) / spread if spread else None
