"""`appliance infer MODEL`: one request to a model of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import Json, ModelName, Target, Version, connected

if TYPE_CHECKING:
    from appliance.pb.inference import grpc_service_pb2 as pb

# More would scroll away what matters; --json gives all.
_ROWS_MAX = 50
_VALUES_MAX = 8
_SECONDS = 300.0


@connected
def infer(
    target: Target,
    model: ModelName,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="JSON text, a file of JSON, CSV or .npy, NAME=FILE for one input, or - for standard input (the default).",
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option("--output", help="Only this output; may be given several times.")
    ] = None,
    version: Version = "",
    as_json: Json = False,
) -> None:
    """Run a model once.

    JSON is {"input": values, ...}, a list for the only input, or the Open
    Inference Protocol's {"inputs": [...]}. The first line of CSV names its
    columns. The table shows at most 50 rows; --json prints all.

    Example: appliance infer iris '{"X": [[5.1, 3.5, 1.4, 0.2]]}'

    Example: appliance infer iris flowers.csv --json
    """
    from appliance.cli.client import Client
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.cli.infer_input import read, request_tensors
    from appliance.pb.inference import grpc_service_pb2 as pb

    with Client(target) as client:
        seconds = client.timeout or _SECONDS
        with client.failures():
            asked = pb.ModelMetadataRequest(name=model, version=version)
            metadata = client.inference.ModelMetadata(asked, timeout=seconds)
        if metadata.platform == "llama_cpp":
            raise CommandFailed(ExitCode.INVALID_INPUT, f"{model} is a language model: use appliance chat {model}")
        document = read(inputs or [], metadata)
        request = pb.ModelInferRequest(model_name=model, model_version=version)
        for head, raw in request_tensors(document, metadata):
            request.inputs.append(head)
            request.raw_input_contents.append(raw)
        for name in outputs or []:
            request.outputs.add(name=name)
        for name, value in document.parameters.items():
            _set_parameter(request.parameters[name], name, value)
        with client.failures():
            answer = client.inference.ModelInfer(request, timeout=seconds)
    _show(answer, as_json)


def _set_parameter(parameter: Any, name: str, value: object) -> None:
    from appliance.cli.arrays import refuse

    kinds: dict[type, str] = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    field = kinds.get(type(value))
    if field is None:
        raise refuse(f'the parameter "{name}" must be true, false, a number or a string')
    try:
        setattr(parameter, field, value)
    except (ValueError, OverflowError):
        raise refuse(f'the parameter "{name}" does not fit into 64 bits') from None


def _show(answer: pb.ModelInferResponse, as_json: bool) -> None:
    from appliance.cli.arrays import decode
    from appliance.cli.exit_codes import CommandFailed, ExitCode

    if len(answer.outputs) != len(answer.raw_output_contents):
        raise CommandFailed(ExitCode.FAILED, "the daemon sent outputs without their contents")
    arrays = [
        (tensor, decode(raw, tensor.datatype, list(tensor.shape)))
        for tensor, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    ]
    document = {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "outputs": [
            {"name": t.name, "datatype": t.datatype, "shape": list(t.shape), "data": array.tolist()}
            for t, array in arrays
        ],
    }
    output.emit(document, as_json, lambda: _print_table(answer, arrays))


def _print_table(answer: pb.ModelInferResponse, arrays: list[tuple[Any, Any]]) -> None:
    """A row for each row of the batch when all outputs have as many; a row for each output otherwise."""
    output.say(f"{answer.model_name} {answer.model_version}")
    rows = {array.shape[0] if array.ndim else -1 for _, array in arrays}
    if len(rows) == 1 and -1 not in rows:
        (total,) = rows
        headings: list[tuple[str, output.Justify]] = [("ROW", "right")]
        headings += [(f"{t.name}\n{t.datatype} {list(t.shape)}", "left") for t, _ in arrays]
        shown = [[str(i), *(_values(array[i]) for _, array in arrays)] for i in range(min(total, _ROWS_MAX))]
        output.table(headings, shown)
        if total > _ROWS_MAX:
            output.note(f"{total - _ROWS_MAX} more rows; --json prints all")
        return
    output.table(
        [("OUTPUT", "left"), ("TYPE", "left"), ("SHAPE", "left"), ("VALUES", "left")],
        [[t.name, t.datatype, str(list(t.shape)), _values(array)] for t, array in arrays],
    )


def _values(array: Any) -> str:
    """The first values, as text."""
    flat = array.reshape(-1) if hasattr(array, "reshape") else [array]
    shown = [_value(v) for v in flat[:_VALUES_MAX]]
    return ", ".join(shown) + (f", ... {len(flat) - _VALUES_MAX} more" if len(flat) > _VALUES_MAX else "")


def _value(value: Any) -> str:
    return (
        output.line(value) if isinstance(value, str) else f"{value:.6g}" if hasattr(value, "is_integer") else str(value)
    )
