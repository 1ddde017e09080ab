"""What a fitted estimator is: classifier or regressor, its classes, its columns, its steps; and what can't be published."""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.errors import FailedPrecondition, InvalidArgument, Unimplemented
from appliance.publish.table import Array, Column, Table, check_text, refused

# What LightGBM calls columns that have no name.
_NO_NAME = re.compile(r"Column_[0-9]+")


@dataclass(frozen=True)
class Subject:
    """A fitted estimator that can be published. ``classes`` in the order of its probabilities; None: a regressor."""

    estimator: Any
    classes: tuple[int | str, ...] | None
    columns: int
    names: tuple[str, ...] | None

    @property
    def kind(self) -> str:
        """``RandomForestClassifier``; of a pipeline, its last step's."""
        return type(last_step(self.estimator)).__name__


@dataclass(frozen=True)
class Numbers:
    """A regressor's answers: ``values`` [rows], FP64."""

    values: Array

    def take(self, rows: Sequence[int]) -> "Numbers":
        """Those of these rows."""
        return Numbers(self.values[list(rows)])


@dataclass(frozen=True)
class Choices:
    """A classifier's answers: ``labels`` [rows], each the index of a class; ``probabilities`` [rows, classes], FP64."""

    labels: Array
    probabilities: Array

    def take(self, rows: Sequence[int]) -> "Choices":
        """Those of these rows."""
        return Choices(self.labels[list(rows)], self.probabilities[list(rows)])


Predictions = Numbers | Choices


def subject(estimator: Any) -> Subject:
    """Raises InvalidArgument ESTIMATOR or Unimplemented ESTIMATOR_UNSUPPORTED with what is in the way."""
    estimator = getattr(estimator, "best_estimator_", estimator)  # of a search over parameters
    if isinstance(estimator, type) or not callable(getattr(estimator, "predict", None)):
        what = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {type(estimator).__name__}"
        raise InvalidArgument(f"this is {what}, no fitted estimator with predict()", reason="ESTIMATOR")
    _check_fitted(estimator)
    kind = _kind(estimator)
    if kind not in ("classifier", "regressor"):
        raise Unimplemented(
            f"a {type(estimator).__name__} is of the kind {kind}; classifiers and regressors can be published",
            reason="ESTIMATOR_UNSUPPORTED",
        )
    if getattr(estimator, "n_outputs_", getattr(last_step(estimator), "n_outputs_", 1)) != 1:
        raise _multi_output(estimator)
    classes = _classes(estimator) if kind == "classifier" else None
    columns = getattr(estimator, "n_features_in_", None)
    if columns is None:
        raise Unimplemented(
            f"the {type(estimator).__name__} doesn't say how many columns it was fitted on (n_features_in_)",
            reason="ESTIMATOR_UNSUPPORTED",
        )
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and all(_NO_NAME.fullmatch(str(name)) for name in names):
        names = None
    return Subject(estimator, classes, int(columns), None if names is None else tuple(str(n) for n in names))


def _check_fitted(estimator: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise InvalidArgument(
            f"this {type(estimator).__name__} is not fitted: call fit() first", reason="ESTIMATOR"
        ) from None
    except TypeError as error:
        raise InvalidArgument(f"this {type(estimator).__name__} is no estimator: {error}", reason="ESTIMATOR") from None


def _kind(estimator: Any) -> str:
    from sklearn.utils import get_tags

    try:
        return get_tags(estimator).estimator_type or "transformer"
    except (AttributeError, TypeError):
        return str(getattr(estimator, "_estimator_type", "thing of another library"))


def _multi_output(estimator: Any) -> Unimplemented:
    return Unimplemented(
        f"the {type(estimator).__name__} predicts several values a row; publish one model for each",
        reason="ESTIMATOR_UNSUPPORTED",
    )


def _classes(estimator: Any) -> tuple[int | str, ...]:
    try:
        found = estimator.classes_
    except AttributeError:
        raise InvalidArgument(
            f"the {type(estimator).__name__} has no classes_: is it fitted?", reason="ESTIMATOR"
        ) from None
    if isinstance(found, list) and found and isinstance(found[0], np.ndarray):
        raise _multi_output(estimator)
    if not hasattr(estimator, "predict_proba"):
        raise Unimplemented(
            f"the {type(last_step(estimator)).__name__} has no predict_proba, and clients get probabilities: wrap it in"
            " CalibratedClassifierCV (an SVC also takes probability=True) and fit again",
            reason="ESTIMATOR_UNSUPPORTED",
        )
    return tuple(_class(item) for item in np.asarray(found).tolist())


def _class(item: object) -> int | str:
    if isinstance(item, str):
        check_text(item, "a class")
        return item
    if isinstance(item, int | float) and float(item).is_integer():
        return int(item)
    raise Unimplemented(
        f"the class {item!r} is neither a whole number nor UTF-8 text; fit the model on classes that are",
        reason="ESTIMATOR_UNSUPPORTED",
    )


def last_step(estimator: Any) -> Any:
    """The estimator at the end of a pipeline, of a pipeline within it too."""
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[-1][1]
    return estimator


def leaves(estimator: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every step that computes something, with where it is: ``prepare/numbers/StandardScaler``."""
    if hasattr(estimator, "steps"):
        parts = [(name, step) for name, step in estimator.steps]
    elif hasattr(estimator, "transformers_"):
        parts = [(name, step) for name, step, _ in estimator.transformers_]
    elif hasattr(estimator, "transformer_list"):
        parts = list(estimator.transformer_list)
    else:
        yield where, estimator
        return
    for name, step in parts:
        if step is not None and not isinstance(step, str):  # "passthrough", "drop"
            yield from leaves(step, f"{where}/{name}".lstrip("/"))


def select(subject: Subject, rows: Table) -> Table:
    """The columns that the estimator was fitted on, in its order, in the form that it takes.

    Raises InvalidArgument TABLE when there are too few or too many.
    """
    if subject.names is None:
        if len(rows.columns) != subject.columns:
            raise refused(
                f"the rows have {len(rows.columns)} columns, the {subject.kind} was fitted on {subject.columns}"
            )
        return Table(rows.columns, _matrix(rows))
    by_name = {c.name: c for c in rows.columns}
    # LightGBM writes its names without spaces.
    spaceless = {re.sub(r"\s", "_", c.name): c for c in rows.columns}
    found = [by_name.get(name) or spaceless.get(name) for name in subject.names]
    missing = [name for name, c in zip(subject.names, found, strict=True) if c is None]
    if missing and not hasattr(rows.given, "iloc") and len(rows.columns) == subject.columns:
        return _named(rows, subject.names)  # a matrix: the order is all there is
    if missing:
        raise refused(
            f"the {subject.kind} was fitted on the column {missing[0]!r}, which the rows don't have; they have"
            f" {', '.join(map(repr, rows.names[:20]))}"
        )
    picked = tuple(c for c in found if c is not None)
    if not hasattr(rows.given, "iloc"):
        return Table(picked, _matrix(Table(picked, None)))
    given = rows.given[[c.name for c in picked]]
    given = given.set_axis(list(subject.names), axis=1)
    return Table(picked, given)


def _named(rows: Table, names: tuple[str, ...]) -> Table:
    import pandas as pd

    columns = tuple(Column(name, c.kind, c.values) for name, c in zip(names, rows.columns, strict=True))
    return Table(columns, pd.DataFrame(rows.given, columns=list(names)))


def _matrix(rows: Table) -> Array:
    if isinstance(rows.given, np.ndarray):
        return rows.given
    if not rows.numeric():
        return np.stack([c.values.astype(object) for c in rows.columns], axis=1)
    return np.stack([c.values for c in rows.columns], axis=1)


def predict(subject: Subject, rows: Table) -> Predictions:
    """The estimator's own answers. Raises InvalidArgument ROWS with its reason, NaN where it takes none among them."""
    model = subject.estimator
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = np.asarray(model.predict(rows.given))
            if said.ndim > 1 and said.shape[1:] != (1,):
                raise _multi_output(model)
            if subject.classes is None:
                return Numbers(said.ravel().astype(np.float64))
            probabilities = np.asarray(model.predict_proba(rows.given), np.float64)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise _explained(subject, rows, error) from None
    index = {value: i for i, value in enumerate(subject.classes)}
    labels = np.array([index[_class(item)] for item in said.ravel().tolist()], np.int64)
    if probabilities.shape != (rows.rows, len(subject.classes)):
        raise FailedPrecondition(
            f"predict_proba gave the shape {list(probabilities.shape)} for {rows.rows} rows and"
            f" {len(subject.classes)} classes",
            reason="ESTIMATOR",
        )
    return Choices(labels, probabilities)


def _explained(subject: Subject, rows: Table, error: Exception) -> InvalidArgument:
    gaps = [f"{c.name!r} ({c.missing})" for c in rows.columns if c.missing]
    if gaps and "NaN" in str(error):
        return InvalidArgument(
            f"the {subject.kind} takes no missing values, and the rows have some in the columns {', '.join(gaps[:10])}:"
            " put a SimpleImputer first and fit again, or leave these rows out",
            reason="ROWS",
        )
    return InvalidArgument(f"the model itself refuses the rows: {str(error)[:1000]}", reason="ROWS")
