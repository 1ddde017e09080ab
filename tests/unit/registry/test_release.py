"""A release as a TUF target: what a publisher encodes a box decodes, and everything else is a BadRelease that says why."""

from typing import Any

import msgspec
import pytest
from securesystemslib.formats import encode_canonical

from appliance import limits
from appliance.registry.release import BadRelease, Chunks, Release, Wave, decode, encode, role_of, target_path

SHA256 = "ab" * 32
PLAIN = Release("press", "1.2.3", "acme/models/press", f"sha256:{SHA256}", 500, 1_000_000, 7, 1_700_000_000)
FULL = Release(
    line="iris-2_b.x",
    version="2.0.0-rc.1",
    repository="acme/eu/models/iris",
    digest=f"sha256:{SHA256}",
    manifest_bytes=limits.manifest_bytes_max,
    bytes=limits.model_bytes_max,
    counter=0,
    released_s=1,
    channels=("candidate", "stable"),
    hardware=("cuda+x86_64", "aarch64"),
    regions=("eu", "ch"),
    waves=(Wave(1, 1_700_000_000), Wave(100, 1_700_003_600)),
    minimum_appliance="1.4.0",
    licence="Apache-2.0",
    chunks=Chunks(f"sha256:{SHA256}", 5000),
)


def decoded(release: Release, **more: Any) -> Release:
    known = {
        "path": target_path(release.line, release.version),
        "length": release.manifest_bytes,
        "sha256": release.digest.removeprefix("sha256:"),
        "custom": encode(release),
    }
    return decode(**{**known, **more})


@pytest.mark.parametrize("release", [PLAIN, FULL], ids=["plain", "full"])
def test_round_trip(release: Release) -> None:
    assert decoded(release) == release
    through_json = msgspec.json.decode(msgspec.json.encode(encode(release)))
    assert decoded(release, custom=through_json) == release


@pytest.mark.parametrize("release", [PLAIN, FULL], ids=["plain", "full"])
def test_it_can_be_signed(release: Release) -> None:
    """Canonical JSON has no fractions."""
    assert encode_canonical(encode(release))


def test_names() -> None:
    assert role_of("press") == "models.press"
    assert target_path("press", "1.0.0") == "models/press/1.0.0/manifest.json"
    assert set(encode(PLAIN)) == {"release"}
    assert not {"line", "version", "digest"} & set(encode(PLAIN)["release"])  # the target says them


def test_what_a_later_publisher_adds_is_ignored() -> None:
    custom = encode(PLAIN)
    custom["release"]["mood"] = "good"
    custom["other"] = 1
    assert decoded(PLAIN, custom=custom) == PLAIN


def test_a_release_without_an_index_is_as_it_was_before_there_were_any() -> None:
    assert "chunks" not in encode(PLAIN)["release"]
    assert encode(FULL)["release"]["chunks"] == {"digest": f"sha256:{SHA256}", "size": 5000}


def test_what_an_earlier_publisher_did_not_know_has_a_default() -> None:
    needed = {"repository": "acme/models/press", "bytes": 1_000_000, "counter": 7, "released_s": 1_700_000_000}
    assert decoded(PLAIN, custom={"release": needed}) == PLAIN


@pytest.mark.parametrize(
    "path",
    ["", "manifest.json", "models/press/1.0.0", "models/press/1.0.0/config.json", "models/press/1.0.0/x/manifest.json",
     "models//1.0.0/manifest.json", "models/press//manifest.json", "models/../1.0.0/manifest.json",
     "models/Press/1.0.0/manifest.json", "models/.press/1.0.0/manifest.json", "models/press/1 0/manifest.json",
     "/models/press/1.0.0/manifest.json", "models/press/1.0.0/manifest.json\n", "models/prëss/1.0.0/manifest.json",
     "x/models/press/1.0.0/manifest.json"],
)  # fmt: skip
def test_paths_of_no_release(path: str) -> None:
    with pytest.raises(BadRelease, match="is no model's manifest"):
        decoded(PLAIN, path=path)


@pytest.mark.parametrize("version", ["1", "1.0", "01.0.0", "1.0.0-", "v1.0.0", "..", "1.0.0-01", "1" * 200 + ".0.0"])
def test_versions_that_are_none(version: str) -> None:
    with pytest.raises(BadRelease, match=r"target models/press/"):
        decoded(PLAIN, path=f"models/press/{version}/manifest.json")


@pytest.mark.parametrize("custom", [None, [], "release", 5, {}, {"Release": {}}])
def test_custom_fields_of_something_else(custom: Any) -> None:
    with pytest.raises(BadRelease, match='no "release"'):
        decoded(PLAIN, custom=custom)


FIELDS: list[tuple[str, Any]] = [
    ("repository", 5), ("repository", None), ("bytes", "many"), ("bytes", -1), ("bytes", 1.5),
    ("bytes", limits.model_bytes_max + 1), ("bytes", 10**30), ("counter", -1), ("counter", None), ("released_s", "now"),
    ("channels", "stable"), ("channels", [1]), ("hardware", {}), ("regions", None), ("waves", [[1, 2]]),
    ("waves", [{"percent": 5}]), ("waves", [{"percent": -1, "from_s": 0}]), ("waves", [{"percent": 101, "from_s": 0}]),
    ("waves", [{"percent": "5", "from_s": 0}]), ("minimum_appliance", "new"), ("minimum_appliance", 1), ("licence", []),
    ("chunks", "sha256"), ("chunks", {}), ("chunks", {"digest": "x"}), ("chunks", {"digest": 1, "size": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=lambda value: repr(value)[:30])
def test_bent_fields(field: str, value: Any) -> None:
    custom = encode(PLAIN)
    custom["release"][field] = value
    with pytest.raises(BadRelease, match=r"target models/press/1\.2\.3/manifest\.json: "):
        decoded(PLAIN, custom=custom)


@pytest.mark.parametrize("field", ["repository", "bytes", "counter", "released_s"])
def test_missing_fields(field: str) -> None:
    custom = encode(PLAIN)
    del custom["release"][field]
    with pytest.raises(BadRelease, match=field):
        decoded(PLAIN, custom=custom)


@pytest.mark.parametrize("sha256", ["", "AB" * 32, "ab" * 31, "ab" * 33, "zz" * 32, "../" * 21 + "x"])
def test_hashes_that_are_none(sha256: str) -> None:
    with pytest.raises(BadRelease, match="no sha256"):
        decoded(PLAIN, sha256=sha256)


@pytest.mark.parametrize("length", [0, -1, limits.manifest_bytes_max + 1])
def test_lengths_out_of_range(length: int) -> None:
    with pytest.raises(BadRelease, match=f"a manifest of {length} bytes"):
        decoded(PLAIN, length=length)


@pytest.mark.parametrize("bad", [{"path": "x" * 10_000}, {"custom": {"release": {"repository": "x" * 10_000}}}])
def test_messages_are_short(bad: dict[str, Any]) -> None:
    with pytest.raises(BadRelease) as caught:
        decoded(PLAIN, **bad)
    assert len(str(caught.value)) < 500
