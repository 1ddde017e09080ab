"""The ML-BOM as others read it: judged by the official CycloneDX 1.6 schema, and by SPDX's own list of licences.

The schemas are those that CycloneDX's own Python library carries; nothing else of it is used.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import model_folders
import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from appliance.publish.release import bom, pack

# As the library names its copies, and as they name each other.
_SUFFIX = ".SNAPSHOT.schema.json"
_BASE = "http://cyclonedx.org/schema/"


def schema(name: str) -> Any:
    return json.loads((resources.files("cyclonedx.schema") / "_res" / (name + _SUFFIX)).read_text("utf-8"))


@pytest.fixture(scope="module")
def judge() -> Draft7Validator:
    others = {_BASE + name + _SUFFIX: Resource.from_contents(schema(name)) for name in ("spdx", "jsf-0.82")}
    return Draft7Validator(schema("bom-1.6"), registry=Registry().with_resources(others.items()))


def made(folder: Path, toml: str) -> Any:
    """The document that is packed with a model folder."""
    return json.loads(pack.plan(model_folders.make(folder, toml)).made[bom.FILE_NAME])


def problems(judge: Draft7Validator, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in judge.iter_errors(document)]


TOMLS = {
    "onnx": model_folders.onnx_toml(),
    "llama": model_folders.llama_toml(),
    "terms of our own": model_folders.onnx_toml().replace('"Apache-2.0"', '"as agreed in contract 12"'),
    "a source that is no address": model_folders.onnx_toml().replace("https://example.org/model", "trained in Linz"),
    "a description": model_folders.onnx_toml() + 'description = "Finds cracks. Größe: 3 \\u00b5m"\n',
}


@pytest.mark.parametrize("name", TOMLS)
def test_the_official_schema_takes_what_is_packed(judge: Draft7Validator, tmp_path: Path, name: str) -> None:
    assert problems(judge, made(tmp_path / "m", TOMLS[name])) == []


def _no_name(document: Any) -> None:
    del document["metadata"]["component"]["name"]


def _short_hash(document: Any) -> None:
    document["components"][0]["hashes"][0]["content"] = "abc"


def _wrong_licence(document: Any) -> None:
    document["metadata"]["component"]["licenses"] = [{"license": {"id": "Apache 2"}}]


def _unknown_field(document: Any) -> None:
    document["metadata"]["component"]["modelCard"]["accuracy"] = 1


def _wrong_serial(document: Any) -> None:
    document["serialNumber"] = "12"


def _twice(document: Any) -> None:
    document["components"].append(document["components"][0])


@pytest.mark.parametrize("bend", [_no_name, _short_hash, _wrong_licence, _unknown_field, _wrong_serial, _twice])
def test_the_judge_refuses_what_is_wrong(judge: Draft7Validator, tmp_path: Path, bend: Any) -> None:
    document = made(tmp_path / "m", TOMLS["onnx"])
    bend(document)
    assert problems(judge, document)


def test_every_licence_that_is_written_as_an_identifier_is_one() -> None:
    assert set(schema("spdx")["enum"]) >= bom._SPDX


@pytest.mark.parametrize("source", ["https://example.org/model, the second one", "https://", "http://a b/c"])
def test_a_source_that_only_begins_like_an_address_is_none(tmp_path: Path, source: str) -> None:
    document = made(tmp_path / "m", model_folders.onnx_toml().replace("https://example.org/model", source))
    assert "externalReferences" not in document["metadata"]["component"]
    properties = document["metadata"]["component"]["modelCard"]["properties"]
    assert {"name": "inference-appliance:source", "value": source} in properties
