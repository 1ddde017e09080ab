"""A fitted estimator and rows to a model folder that has proved itself: ``export(model, rows, output, options)``.

The order is that of doubt: what is cheap to refuse first, then the conversion, then the comparison on every row, then
the folder, whose golden tests the real engine runs before the folder gets its name.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import FailedPrecondition
from appliance.publish import compare, convert, folder, golden_tests, labels, onnx_predictions, split, statistics
from appliance.publish.card import CardTexts, card
from appliance.publish.card import check as check_card
from appliance.publish.compare import Agreement
from appliance.publish.convert import Inputs, Layout
from appliance.publish.document import check_names, classifier_facts, document, regressor_facts
from appliance.publish.estimators import Predictions, Subject, predict, subject
from appliance.publish.prove import prove
from appliance.publish.rows import Parts, parts
from appliance.publish.toml_writer import dumps

MODEL_FILE = "model.onnx"
STATISTICS_FILE = "statistics.json"
Say = Callable[[str], None]


class ExportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``target``: the column (its name) or the values that are to be predicted; not needed.

    ``held_back``: how many of the rows become golden tests, at most half of them; or other rows, which the model was not
    trained on: only of those is it said how good it is. ``labels``: names in the order of classes_, or by class.
    ``layout``: see convert.plan_inputs; ``input_name``, ``output_name`` ("": the target's name or "prediction"), ``unit``
    (of a regressor) are what clients see. ``tolerance``: how far a row may be off, for probabilities as it is, for numbers
    in standard deviations of the predictions; ``accept_difference`` publishes all the same, and the card says so.
    """

    name: str
    version: str
    card: CardTexts
    target: Any = None
    held_back: Any = 20
    labels: Any = None
    layout: Layout = "auto"
    input_name: str = "features"
    output_name: str = ""
    unit: str = ""
    tolerance: float = 1e-3
    accept_difference: bool = False
    force: bool = False


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was made. ``largest_difference`` in the units of ``ExportOptions.tolerance``; rows count from 0.

    ``score``: share of right labels, or R2, on held-back rows that came apart. ``files``: path to bytes.
    """

    folder: str
    name: str
    version: str
    estimator: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    rows: int
    held_back: int
    largest_difference: float
    tolerance: float
    rows_beyond: tuple[int, ...]
    labels_differ: tuple[int, ...]
    score: float | None
    golden_tests: tuple[str, ...]
    files: dict[str, int]


class _Model(msgspec.Struct, frozen=True):
    """All that is known before a folder is written."""

    it: Subject
    given: Parts
    expected: Predictions
    inputs: Inputs
    output: str
    labels: tuple[str, ...]
    onnx: bytes
    agreement: Agreement


def export(model: Any, rows: Any, output: Path | str, options: ExportOptions, say: Say = lambda _: None) -> Exported:
    """Makes the model folder ``output``. ``rows``: an array, a DataFrame, or a mapping of names to columns.

    Raises InvalidArgument, FailedPrecondition, Unimplemented, AlreadyExists or ResourceExhausted with what is in the way;
    then nothing is left of the folder.
    """
    target = Path(output).absolute()
    folder.check_place(target, options.force)
    check_names(options.name, options.version)
    check_card(options.card)
    made = _convert(subject(model), rows, options, say)
    golden, arrays = _golden(made)
    files = {MODEL_FILE: made.onnx, STATISTICS_FILE: _statistics(made)}
    if made.labels:
        files[labels.FILE_NAME] = labels.content(made.labels)
    files |= arrays
    files["model.toml"] = dumps(_document(made, options, golden, list(files))).encode()
    with folder.building(target, options.force) as work:
        folder.write_files(work, files)
        say("proving the folder with the engine")
        passed = prove(work)
    return _told(made, options, target, passed, files)


def _convert(it: Subject, rows: Any, options: ExportOptions, say: Say) -> _Model:
    names = labels.names(it.classes, options.labels) if it.classes else ()
    given = parts(it, rows, options)
    table = given.table
    say(f"asking the {it.kind} about {table.rows} rows of {len(table.columns)} columns")
    expected = predict(it, table)
    given = given.split(expected, options)
    output = options.output_name or given.output_name
    inputs = convert.plan_inputs(it, table, options.layout, options.input_name)
    data, agreement = _nearest(it, inputs, given, expected, output, options, say)
    return _Model(it, given, expected, inputs, output, names, data, agreement)


def _nearest(
    it: Subject, inputs: Inputs, given: Parts, expected: Predictions, output: str, options: ExportOptions, say: Say
) -> tuple[bytes, Agreement]:
    """The file that is nearest to the estimator; scalers can divide in three ways, and trees behind them see which."""
    best: tuple[bytes, Agreement] | None = None
    for division in convert.DIVISIONS if convert.has_scalers(it) else convert.DIVISIONS[:1]:
        say("converting to ONNX" + (", dividing in another way" if best else ""))
        data = convert.convert(it, inputs, {"variable": output} if it.classes is None else {}, division)
        got = onnx_predictions.predict(data, inputs, given.table, it.classes)
        agreement = compare.compare(expected, got, options.tolerance)
        if best is None or (len(agreement.far), agreement.largest) < (len(best[1].far), best[1].largest):
            best = data, agreement
        if not agreement.far:
            break
    assert best is not None  # there is at least one way to divide
    say(best[1].summary())
    if not options.accept_difference:
        compare.check(best[1], convert.advice(it, given.table))
    return best


def _golden(made: _Model) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    usable = sorted(set(made.given.held_back) - set(made.agreement.far) - set(made.agreement.labels_differ))
    if not usable:
        raise FailedPrecondition(
            "all held-back rows differ from the original model, and none is left for a golden test", reason="DIFFERENCE"
        )
    return golden_tests.tests(
        split.groups(made.given.table, made.expected, usable),
        made.inputs.feed(made.given.table),
        golden_tests.outputs(made.expected, made.it.classes or (), made.output),
        compare.golden_tolerance(made.agreement, usable),
    )


def _statistics(made: _Model) -> bytes:
    seen = made.given.reference
    table = made.given.table.take(seen)
    return statistics.document(
        table, made.inputs.places(), made.expected.take(seen), made.labels, made.given.target_of(seen), made.output
    )


def _document(made: _Model, options: ExportOptions, golden: list[dict[str, Any]], paths: list[str]) -> dict[str, Any]:
    roles = {MODEL_FILE: "model", STATISTICS_FILE: "statistics", labels.FILE_NAME: "labels"}
    files = [(path, roles.get(path, "golden")) for path in paths]
    if made.labels:
        onnx = classifier_facts(labels.FILE_NAME, made.labels)
    else:
        onnx = regressor_facts(made.output, options.unit, made.given.target.name if made.given.target else "")
    facts = [*made.given.facts(made.it, made.expected), made.agreement.summary()]
    return document(options.name, options.version, files, onnx, card(options.card, made.it, facts), golden)


def _told(
    made: _Model, options: ExportOptions, target: Path, passed: tuple[str, ...], files: dict[str, bytes]
) -> Exported:
    return Exported(
        folder=str(target),
        name=options.name,
        version=options.version,
        estimator=type(made.it.estimator).__name__,
        inputs=((made.inputs.matrix, "FP32"),) if made.inputs.matrix else made.inputs.columns,
        outputs=("label", "probabilities") if made.labels else (made.output,),
        classes=made.labels,
        rows=made.given.table.rows,
        held_back=len(made.given.held_back),
        largest_difference=made.agreement.largest,
        tolerance=options.tolerance,
        rows_beyond=made.agreement.far,
        labels_differ=made.agreement.labels_differ,
        score=made.given.score(made.expected, made.it.classes),
        golden_tests=passed,
        files={path: len(content) for path, content in files.items()},
    )
