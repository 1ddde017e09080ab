"""The labels of a model's outputs: lines of a file that model.toml names, or the classes that a ZipMap has."""

import logging
from pathlib import Path

import onnxruntime as ort

from appliance import limits
from appliance.engine.model_files import listed_file, read_lines
from appliance.engine.onnx.columns import zipmap_labels
from appliance.engine.onnx.made_up import synthetic_feed
from appliance.engine.onnx.signature import signature
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec
from appliance.types import ModelSignature

_log = logging.getLogger(__name__)


def output_labels(
    session: ort.InferenceSession, zipmaps: frozenset[str], spec: ModelSpec, folder: Path
) -> dict[str, tuple[str, ...]]:
    """Labels by output. A file's go before those that a ZipMap has, of which there must be as many.

    Raises InvalidArgument MODEL_FILE when a file is not there, is not listed, or doesn't fit.
    """
    classes = _zipmap_labels(session, zipmaps)
    named = _file_labels(spec, folder, session)
    for output, labels in named.items():
        if output in classes and len(classes[output]) != len(labels):
            raise InvalidArgument(
                f"onnx.labels gives {len(labels)} labels for the output {output!r}, which has"
                f" {len(classes[output])} classes",
                reason="MODEL_FILE",
            )
    return classes | named


def _file_labels(spec: ModelSpec, folder: Path, session: ort.InferenceSession) -> dict[str, tuple[str, ...]]:
    known = [node.name for node in session.get_outputs()]
    result = {}
    for output, name in spec.onnx.labels.items():
        if output not in known:
            raise InvalidArgument(
                f"onnx.labels names the output {output!r}; the model gives {', '.join(map(repr, known))}",
                reason="MODEL_FILE",
            )
        result[output] = read_lines(listed_file(spec, folder, name, "labels"), name, limits.labels_bytes_max)
    return result


def _zipmap_labels(session: ort.InferenceSession, zipmaps: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """The classes are not in the runtime's account of the model: one run on zeros tells them, where it can."""
    if not zipmaps:
        return {}
    names = sorted(zipmaps)
    inputs: ModelSignature = signature(session.get_inputs(), (), (), {})
    try:
        answers = session.run(names, synthetic_feed(inputs, 1))
    except Exception as error:  # made-up data; the model serves without labels
        _log.info("the classes of %s stay unknown: %s", ", ".join(names), error)
        return {}
    return {n: tuple(str(k) for k in zipmap_labels(rows)) for n, rows in zip(names, answers, strict=True)}
