"""Reads what `appliance infer` is given: JSON, CSV and .npy, from arguments, files and standard input."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from appliance.cli.arrays import encode, fit_shape, load_npy, refuse, to_array
from appliance.pb.inference import grpc_service_pb2 as pb

# Larger than the largest message that a daemon may be configured for: as text, numbers take several times their bytes.
_INPUT_BYTES_MAX = 8 * 1024 * 1024 * 1024
_NPY_MAGIC = b"\x93NUMPY"


class Document(NamedTuple):
    """The values by input name, and an OIP document's own settings."""

    values: dict[str, Any]
    types: dict[str, str]
    shapes: dict[str, list[int]]
    parameters: dict[str, Any]


def read(arguments: list[str], metadata: pb.ModelMetadataResponse) -> Document:
    """The inputs that the arguments name; raises CommandFailed with which one is wrong."""
    merged = Document({}, {}, {}, {})
    for argument in arguments or ["-"]:
        name, equals, path = argument.partition("=")
        if equals and not argument.lstrip().startswith(("{", "[")) and not Path(argument).exists():
            found = _one(_bytes(path), path, metadata, name)
        elif argument.lstrip().startswith(("{", "[")):
            found = _json(argument.encode(), "the JSON given", metadata, "")
        else:
            found = _one(_bytes(argument), argument, metadata, "")
        for name in found.values:
            if name in merged.values:
                raise refuse(f'input "{name}" is given twice')
        merged.values.update(found.values)
        merged.types.update(found.types)
        merged.shapes.update(found.shapes)
        merged.parameters.update(found.parameters)
    return merged


def request_tensors(document: Document, metadata: pb.ModelMetadataResponse) -> list[tuple[Any, bytes]]:
    """Each input's head and raw bytes, in the order given."""
    known = {tensor.name: tensor for tensor in metadata.inputs}
    tensors = []
    for name, value in document.values.items():
        if name not in known:
            raise refuse(f'the model has no input "{name}"; it takes {_names(metadata)}')
        datatype = document.types.get(name, known[name].datatype)
        array = to_array(name, value, datatype)
        if name in document.shapes:
            try:
                array = array.reshape(document.shapes[name])
            except ValueError:
                raise refuse(
                    f'input "{name}": {array.size} values do not fill the shape {document.shapes[name]}'
                ) from None
        else:
            array = fit_shape(array, list(known[name].shape))
        head = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=array.shape)
        tensors.append((head, encode(array, datatype)))
    return tensors


def _bytes(path: str) -> bytes:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_INPUT_BYTES_MAX + 1)
        else:
            with Path(path).open("rb") as stream:
                data = stream.read(_INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise refuse(f"{path}: {error.strerror}") from None
    if len(data) > _INPUT_BYTES_MAX:
        raise refuse(f"{path} is larger than any request may be")
    return data


def _one(data: bytes, path: str, metadata: pb.ModelMetadataResponse, name: str) -> Document:
    """One file's content, by what it begins with: names of files lie, and standard input has none."""
    place = "standard input" if path == "-" else path
    if data.startswith(_NPY_MAGIC):
        return _document({name or _only_input(metadata, place): load_npy(data, place)})
    if data.lstrip()[:1] in (b"{", b"["):
        return _json(data, place, metadata, name)
    if not data.strip():
        raise refuse(f"{place} is empty")
    return _csv(data, place, metadata, name)


def _json(data: bytes, place: str, metadata: pb.ModelMetadataResponse, name: str) -> Document:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise refuse(f"{place} is not valid JSON: {error}") from None
    if name or isinstance(content, list):
        return _document({name or _only_input(metadata, place): content})
    listed = content.get("inputs")
    if isinstance(listed, list) and listed and all(isinstance(t, dict) and "name" in t for t in listed):
        return _oip(content, place)
    if not content:
        raise refuse(f"{place} names no input; the model takes {_names(metadata)}")
    return _document(content)


def _oip(content: dict[str, Any], place: str) -> Document:
    """The body of the protocol's REST form: {"inputs": [{"name", "shape", "datatype", "data"}], "parameters"}."""
    document = _document({})
    for tensor in content["inputs"]:
        name = str(tensor["name"])
        if "data" not in tensor:
            raise refuse(f'{place}: input "{name}" has no "data"')
        document.values[name] = tensor["data"]
        if "datatype" in tensor:
            document.types[name] = str(tensor["datatype"])
        if "shape" in tensor:
            shape = tensor["shape"]
            if not (isinstance(shape, list) and all(type(axis) is int and axis >= 0 for axis in shape)):
                raise refuse(f'{place}: the "shape" of input "{name}" must be a list of whole numbers from 0')
            document.shapes[name] = shape
    parameters = content.get("parameters", {})
    if not isinstance(parameters, dict):
        raise refuse(f'{place}: "parameters" must be an object')
    document.parameters.update(parameters)
    return document


def _csv(data: bytes, place: str, metadata: pb.ModelMetadataResponse, name: str) -> Document:
    """The first line names the columns: the model's inputs, or else the features of its one matrix."""
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) if row]
    except UnicodeDecodeError:
        raise refuse(f"{place} is neither JSON nor .npy, nor CSV in UTF-8") from None
    except csv.Error as error:
        raise refuse(f"{place} is not CSV: {error}") from None
    header, body = [column.strip() for column in rows[0]], rows[1:]
    if not body:
        raise refuse(f"{place} has a header line but no rows")
    for number, row in enumerate(body, 2):
        if len(row) != len(header):
            raise refuse(f"{place}: row {number} has {len(row)} columns, the header names {len(header)}")
    if not name and set(header) == {tensor.name for tensor in metadata.inputs}:
        return _document({column: [[row[i]] for row in body] for i, column in enumerate(header)})
    return _document({name or _only_input(metadata, place): body})


def _document(values: dict[str, Any]) -> Document:
    return Document(dict(values), {}, {}, {})


def _only_input(metadata: pb.ModelMetadataResponse, place: str) -> str:
    if len(metadata.inputs) != 1:
        raise refuse(f"{place} does not say which input it is; give NAME=FILE, the model takes {_names(metadata)}")
    return metadata.inputs[0].name


def _names(metadata: pb.ModelMetadataResponse) -> str:
    return ", ".join(f'"{t.name}" ({t.datatype} {list(t.shape)})' for t in metadata.inputs) or "no inputs"
