"""scripts/export_sklearn: arguments in, one model folder out, exit status as the `appliance` command has them."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from appliance.errors import ApplianceError, Code

EXAMPLE = """example:
  scripts/export_sklearn model.joblib --data rows.csv --target species --name iris --version 1.0.0 --output ./iris \\
      --labels setosa,versicolor,virginica --licence "CC BY 4.0" --source "trained by ... on ..." \\
      --intended-use "sorting flowers on line 3" --limits "three species of one valley; 3 % are named wrong"
  appliance models add ./iris

MODEL is .joblib, .pkl (reading a pickle runs what its writer put into it: only your own), XGBoost's .json or .ubj, or
LightGBM's .txt. From Python, without a pickle: appliance.publish.export.export(model, rows, output, options).
"""

# The numbers of appliance/cli/exit_codes.py, which a publisher's scripts know already.
OK, FAILED, USAGE, UNAVAILABLE, INVALID_INPUT, REFUSED, INTERRUPTED = 0, 1, 2, 5, 6, 7, 130
BY_CODE = {
    Code.INVALID_ARGUMENT: INVALID_INPUT,
    Code.UNIMPLEMENTED: INVALID_INPUT,
    Code.ALREADY_EXISTS: REFUSED,
    Code.FAILED_PRECONDITION: REFUSED,
    Code.RESOURCE_EXHAUSTED: UNAVAILABLE,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/export_sklearn",
        description="Makes a tested model folder of a fitted scikit-learn, XGBoost or LightGBM model.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", type=Path, metavar="MODEL", help="the fitted estimator or pipeline")
    made.add_argument("--name", required=True, help="the model's name on the box")
    made.add_argument("--version", required=True, help="semantic version, as 1.0.0")
    made.add_argument("--output", required=True, type=Path, metavar="DIR", help="the model folder to make")
    made.add_argument("--force", action="store_true", help="replace a model folder that is there")
    made.add_argument("--json", action="store_true", help="one JSON document on standard output, failures too")
    made.add_argument("--quiet", action="store_true", help="no progress lines")
    _add_data(made.add_argument_group("rows"))
    _add_interface(made.add_argument_group("what clients see"))
    _add_card(made.add_argument_group("card (the first four are needed)"))
    _add_comparison(made.add_argument_group("comparison with the original model"))
    return made


def _add_data(group: Any) -> None:
    group.add_argument("--data", required=True, type=Path, metavar="FILE", help=".csv with names, .npy, .npz, .parquet")
    group.add_argument("--target", metavar="COLUMN", help="the column that is predicted, if it is among them")
    group.add_argument(
        "--held-back", type=int, default=20, metavar="N", help="rows kept for golden tests (%(default)s)"
    )
    group.add_argument(
        "--held-back-data", type=Path, metavar="FILE", help="other rows for that, which the model was not trained on"
    )
    group.add_argument("--delimiter", default=",", help="of a .csv file (%(default)s)")
    group.add_argument("--float32", action="store_true", help="the model was trained on FP32 numbers: read them so")


def _add_interface(group: Any) -> None:
    group.add_argument("--labels", metavar="A,B,...", help="names of the classes, in the order of classes_")
    group.add_argument("--labels-file", type=Path, metavar="FILE", help="the same, one a line")
    group.add_argument(
        "--layout", choices=("auto", "matrix", "columns"), default="auto", help="one input, or one a column"
    )
    group.add_argument("--input-name", default="features", help="of the one input (%(default)s)")
    group.add_argument("--output-name", default="", help="of a regressor's output (the target's name)")
    group.add_argument("--unit", default="", help="of a regressor's output")


def _add_card(group: Any) -> None:
    group.add_argument("--licence", default="", help="terms of the model and its data")
    group.add_argument("--source", default="", help="who trained it, with what, on which data")
    group.add_argument("--intended-use", default="", help="what it is for")
    group.add_argument("--limits", default="", help="what it is not for, how often it is wrong")
    group.add_argument("--description", default="", help="what it does, in a sentence")


def _add_comparison(group: Any) -> None:
    group.add_argument(
        "--tolerance",
        type=float,
        default=1e-3,
        help="of a probability, or in standard deviations of the predictions (%(default)s)",
    )
    group.add_argument("--accept-difference", action="store_true", help="export although rows differ by more")


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    options = parser().parse_args(arguments)
    try:
        exported = _export(options)
    except ApplianceError as error:
        return _fail(options, error.code.value, error.reason, error.message, BY_CODE.get(error.code, FAILED))
    except KeyboardInterrupt:
        return _fail(options, "CANCELLED", "INTERRUPTED", "interrupted", INTERRUPTED)
    except Exception as error:
        if os.environ.get("APPLIANCE_DEBUG"):
            raise
        text = f"unexpected {type(error).__name__}: {error} (set APPLIANCE_DEBUG=1 to see where)"
        return _fail(options, "INTERNAL", "UNEXPECTED", text, FAILED)
    if options.json:
        sys.stdout.write(msgspec.json.encode(exported).decode() + "\n")
    else:
        tests = len(exported.golden_tests)
        size = sum(exported.files.values())
        sys.stdout.write(
            f"{exported.name} {exported.version}: {exported.folder} ({len(exported.files)} files, {size:,} bytes,"
            f" {tests} golden test{'' if tests == 1 else 's'} passed)\nNow: appliance models add {exported.folder}\n"
        )
    return OK


def _export(options: argparse.Namespace) -> Any:
    # They load scikit-learn and ONNX, which --help has no use for.
    from appliance.publish import labels
    from appliance.publish.card import CardTexts
    from appliance.publish.export import ExportOptions, export
    from appliance.publish.model_files import read_model
    from appliance.publish.table_files import read_rows

    if options.labels and options.labels_file:
        _usage("give --labels or --labels-file, not both")
    if len(options.delimiter) != 1:
        _usage(f"--delimiter is one character, not {options.delimiter!r}")
    names = labels.read(options.labels_file) if options.labels_file else None
    if options.labels:
        names = [text.strip() for text in options.labels.split(",")]
    rows = read_rows(options.data, options.delimiter, options.float32)
    held_back: Any = options.held_back
    if options.held_back_data:
        held_back = read_rows(options.held_back_data, options.delimiter, options.float32)

    def say(line: str) -> None:
        if not options.quiet:
            sys.stderr.write(f"export_sklearn: {line}\n")

    return export(
        read_model(options.model, say),
        rows,
        options.output,
        ExportOptions(
            name=options.name,
            version=options.version,
            card=CardTexts(
                licence=options.licence,
                source=options.source,
                intended_use=options.intended_use,
                limits=options.limits,
                description=options.description,
            ),
            target=options.target,
            held_back=held_back,
            labels=names,
            layout=options.layout,
            input_name=options.input_name,
            output_name=options.output_name,
            unit=options.unit,
            tolerance=options.tolerance,
            accept_difference=options.accept_difference,
            force=options.force,
        ),
        say,
    )


def _usage(message: str) -> NoReturn:
    parser().error(message)


def _fail(options: argparse.Namespace, code: str, reason: str, message: str, status: int) -> int:
    """One line for the person; for a script that reads our output as JSON, one document too."""
    sys.stderr.write(f"export_sklearn: {message}\n")
    if options.json:
        document = {"error": {"code": code, "reason": reason, "message": message, "exit_status": status}}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
