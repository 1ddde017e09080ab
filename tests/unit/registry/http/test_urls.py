import pytest

from appliance.errors import InvalidArgument
from appliance.registry.http.urls import Origin, blob_path, follow, manifest_path, origin_of, registry_origin
from appliance.registry.sources.failures import Malformed

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("url", "origin", "netloc"),
    [
        ("https://Models.Example", Origin("https", "models.example", 443), "models.example"),
        ("https://models.example:443/", Origin("https", "models.example", 443), "models.example"),
        ("http://[::1]:5000", Origin("http", "::1", 5000), "[::1]:5000"),
    ],
)
def test_a_registrys_origin(url: str, origin: Origin, netloc: str) -> None:
    assert registry_origin(url) == origin
    assert origin.netloc == netloc


@pytest.mark.parametrize(
    "url",
    [
        "",
        "models.example",
        "ftp://x",
        "https://",
        "https://u:p@x",
        "https://x/y",
        "https://x?y",
        "https://x:99999",
        "https://x y",
    ],
)
def test_urls_that_are_no_registry(url: str) -> None:
    with pytest.raises(InvalidArgument):
        registry_origin(url)


@pytest.mark.parametrize(
    ("url", "location", "to"),
    [
        ("https://a/v2/x", "https://b:1/y?z=1#f", "https://b:1/y?z=1"),
        ("https://a/v2/x", "/y", "https://a/y"),
        ("https://a/v2/x", "//b/y", "https://b/y"),
        ("http://a/v2/x", "https://b/", "https://b/"),
        ("http://a/v2/x", "http://b/", "http://b/"),
    ],
)
def test_redirects_that_we_follow(url: str, location: str, to: str) -> None:
    assert follow(url, location) == to


@pytest.mark.parametrize(
    "location",
    ["", "http://a/", "file:///etc/passwd", "https://u:p@b/", "https://b\\@a/", "https://b/ x", "https://b/\r\nX: y",
     "https://b/" + "x" * 9000, "https://[::1/", "https://b:x/", "ftp://b/"],
)  # fmt: skip
def test_redirects_that_we_dont_follow(location: str) -> None:
    with pytest.raises(Malformed):
        follow("https://a/v2/x", location)


@pytest.mark.parametrize("repository", ["", "A", "a//b", "../a", "a/..", "/a", "a/", "a?b", "a b", "a%2fb", "a" * 256])
def test_names_that_are_no_repository(repository: str) -> None:
    with pytest.raises(Malformed):
        blob_path(repository, DIGEST)


@pytest.mark.parametrize("reference", ["", "..", ".a", "a/b", "a" * 129, "sha256:" + "A" * 64, "sha256:aa", "a?b"])
def test_names_that_are_no_reference(reference: str) -> None:
    with pytest.raises(Malformed):
        manifest_path("a/b", reference)


def test_paths() -> None:
    assert manifest_path("a/b", "7.root.json") == "/v2/a/b/manifests/7.root.json"
    assert blob_path("a/b", DIGEST) == f"/v2/a/b/blobs/{DIGEST}"


@pytest.mark.parametrize(
    ("url", "keeps"),
    [
        ("https://x", True),
        ("http://127.0.0.9", True),
        ("http://localhost", True),
        ("http://[::1]", True),
        ("http://10.0.0.1", False),
        ("http://x", False),
    ],
)
def test_where_a_password_may_go(url: str, keeps: bool) -> None:
    assert origin_of(url).keeps_secrets is keeps
