"""A model folder as an artefact: what is added to it, what is refused, and that a box takes it as it is."""

import json
from pathlib import Path

import model_folders
import pytest
from memory_registry import MemoryRegistry
from publishing import SETTINGS, registry

from appliance.errors import InvalidArgument
from appliance.publish.release import bom, pack, push
from appliance.store import manifest, model_folder, model_toml

PLACE = SETTINGS.model_repository("press")


def unpacked(memory: MemoryRegistry, folder: Path) -> Path:
    """The artefact's files, as a box lays them out."""
    parsed = push.find(memory, PLACE, "1.0.0").manifest
    for layer in parsed.layers:
        path = folder / manifest.file_path(layer)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(memory.blobs[PLACE, layer.digest])
    return folder


@pytest.fixture
def packed(tmp_path):
    memory = MemoryRegistry()
    folder = model_folders.make(tmp_path / "m")
    plan = pack.plan(folder)
    pack.put(plan, registry(memory), PLACE)
    return plan, memory, folder


def test_a_box_reads_what_was_packed(packed, tmp_path):
    plan, memory, folder = packed
    box = model_folder.read(unpacked(memory, tmp_path / "box"))
    assert box.spec == plan.spec
    before = model_folder.read(folder).spec
    assert [file.path for file in box.spec.files] == [
        *(f.path for f in before.files),
        "MODEL_CARD.md",
        "ml-bom.cdx.json",
    ]
    assert box.spec.golden == before.golden
    # Hashed again on the box, the same manifest comes out.
    again = pack.plan(tmp_path / "box")
    assert again.artefact.digest == plan.artefact.digest
    assert not again.made


def test_the_folder_is_not_touched_and_packing_twice_is_the_same(packed):
    plan, memory, folder = packed
    assert (folder / "model.toml").read_text() == model_folders.onnx_toml()
    assert not (folder / "MODEL_CARD.md").exists()
    writes = memory.writes
    again = pack.plan(folder)
    assert again.artefact.digest == plan.artefact.digest
    pack.put(again, registry(memory), PLACE)
    assert memory.writes == writes + 1  # the tag


def test_bom_says_what_the_model_is_made_of(packed, tmp_path):
    plan, memory, _ = packed
    document = json.loads((unpacked(memory, tmp_path / "box") / bom.FILE_NAME).read_text())
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    assert document["serialNumber"].startswith("urn:uuid:")
    model = document["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "press", "1.0.0")
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert model["modelCard"]["considerations"] == {"useCases": ["tests"], "technicalLimitations": ["none"]}
    assert model["externalReferences"] == [{"type": "distribution", "url": "https://example.org/model"}]
    hashes = {file["name"]: file["hashes"][0]["content"] for file in document["components"]}
    assert hashes == {layer.path: layer.sha256 for layer in plan.layers if layer.path != bom.FILE_NAME}
    references = [model["bom-ref"], *(file["bom-ref"] for file in document["components"])]
    assert len(set(references)) == len(references)
    assert {entry["ref"] for entry in document["dependencies"]} == set(references)


@pytest.mark.parametrize(
    ("licence", "written"),
    [("MIT", {"id": "MIT"}), ("our own terms", {"name": "our own terms"}), ("Apache 2", {"name": "Apache 2"})],
)
def test_licences(tmp_path, licence, written):
    toml = model_folders.onnx_toml().replace('"Apache-2.0"', f'"{licence}"')
    plan = pack.plan(model_folders.make(tmp_path / "m", toml))
    assert json.loads(plan.made[bom.FILE_NAME])["metadata"]["component"]["licenses"] == [{"license": written}]


def test_documents_of_the_publisher_are_kept(tmp_path):
    listed = '{ path = "README.md", role = "doc" },'
    more = '{ path = "MODEL_CARD.md", role = "doc" }, { path = "sbom/own.cdx.json", role = "doc" },'
    toml = model_folders.onnx_toml().replace(listed, listed + more)
    files = {"MODEL_CARD.md": b"# mine", "sbom/own.cdx.json": b"{}"}
    plan = pack.plan(model_folders.make(tmp_path / "m", toml, **files))
    assert not plan.made
    assert [layer.path for layer in plan.layers][-2:] == list(files)


@pytest.mark.parametrize("name", ["MODEL_CARD.md", "ml-bom.cdx.json"])
def test_a_document_that_is_not_listed_is_not_replaced(tmp_path, name):
    folder = model_folders.make(tmp_path / "m", **{name: b"mine"})
    with pytest.raises(InvalidArgument, match="list it there"):
        pack.plan(folder)


def _break(kind: str, folder: Path) -> None:
    path = folder / "labels.txt"
    if kind == "missing":
        path.unlink()
    elif kind == "link":
        path.unlink()
        path.symlink_to("/etc/passwd")
    elif kind == "toml":
        (folder / "model.toml").write_text("name = ")
    elif kind == "outside":
        text = (folder / "model.toml").read_text()
        (folder / "model.toml").write_text(text.replace("labels.txt", "../labels.txt"))
    elif kind == "card":
        (folder / "model.toml").write_text(model_folders.ONNX)
    elif kind == "empty":
        (folder / "model.onnx").write_bytes(b"")


@pytest.mark.parametrize("kind", ["missing", "link", "toml", "outside", "card", "empty"])
def test_bad_folders(tmp_path, kind):
    folder = model_folders.make(tmp_path / "m")
    _break(kind, folder)
    with pytest.raises(InvalidArgument):
        pack.plan(folder)


def test_a_file_that_changes_while_it_is_read(tmp_path):
    folder = model_folders.make(tmp_path / "m")
    plan = pack.plan(folder)
    (folder / "labels.txt").write_bytes(b"bad\ngood\n")
    memory = MemoryRegistry()
    with pytest.raises(InvalidArgument, match="changed while it was read"):
        pack.put(plan, registry(memory), PLACE)
    assert not memory.manifests


def test_model_toml_is_written_again_only_when_it_stays_the_same(tmp_path):
    odd = b'files = [{ path = "m" }]\nx = [[{ a = 1 }]]\n'
    with pytest.raises(InvalidArgument, match="add these files yourself"):
        pack.with_documents(odd, ("MODEL_CARD.md",))
    dated = b'files = [{ path = "m" }]\nx = 2020-01-01\n'
    with pytest.raises(InvalidArgument):
        pack.with_documents(dated, ("MODEL_CARD.md",))
    text = model_folders.llama_toml().encode()
    spec = model_toml.parse(pack.with_documents(text, ("a.md", "b.md")))
    assert [file.path for file in spec.files][-2:] == ["a.md", "b.md"]
    assert spec.golden == model_toml.parse(text).golden


def test_a_broken_manifest_in_the_layout(packed):
    _, memory, _ = packed
    memory.manifests[PLACE, "1.0.0"] = b"{}"
    with pytest.raises(Exception, match="pack it again"):
        push.find(memory, PLACE, "1.0.0")
