import pytest

from appliance.registry.http.challenge import Challenge, parse

BEARER = {"realm": "https://a/token", "service": "s", "scope": "repository:a/b:pull,push"}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", []),
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        ("Basic", [Challenge("basic", {})]),
        ('BEARER Realm="https://a/token",service=s , scope="repository:a/b:pull,push"', [Challenge("bearer", BEARER)]),
        ('Negotiate, Basic realm="a\\"b"', [Challenge("negotiate", {}), Challenge("basic", {"realm": 'a"b'})]),
        (
            'Basic realm="x", Bearer realm="y"',
            [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y"})],
        ),
        ('="x"', []),
        ('Bearer realm="open', [Challenge("bearer", {})]),
        ("Basic " + "x" * 10_000, []),
        ("Bearer" + " " * 8000 + "=", [Challenge("bearer", {})]),
        ('Bearer realm="' + "\\" * 8000, [Challenge("bearer", {})]),
    ],
)
def test_challenges(header: str, found: list[Challenge]) -> None:
    assert parse(header) == found
