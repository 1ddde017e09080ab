"""Semantic versions, with the examples of semver.org."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import semver

ORDER = [
    "0.0.1",
    "0.9.10",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "2.0.0",
    "2.1.0",
    "2.1.1",
    "10.0.0",
]


def test_versions_sort_as_clause_11_says() -> None:
    assert sorted(set(ORDER), key=semver.sort_key) == ORDER
    assert len({semver.sort_key(v) for v in ORDER}) == len(ORDER)


@pytest.mark.parametrize("version", ["0.0.0", "1.2.3-0", "1.0.0--", "1.0.0-x-y.0a", "99999999999999999999.0.0", *ORDER])
def test_valid_versions_are_taken(version: str) -> None:
    semver.check(version)


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.02.3",
        "1.2.3-01",
        "1.2.3-",
        "1.2.3-a..b",
        "v1.2.3",
        "1.2.3\n",
        "1.2.٣",
        "1.2.3-ü",
        "a" * 65,
    ],
)
def test_invalid_versions_are_refused(version: str) -> None:
    with pytest.raises(ValueError, match=r"semantic version|characters"):
        semver.check(version)


def test_build_metadata_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"build metadata \(\+gpu\).*OCI.*1\.0\.0-gpu"):
        semver.check("1.0.0+gpu")


@given(st.tuples(*[st.integers(0, 10**6)] * 3), st.tuples(*[st.integers(0, 10**6)] * 3))
def test_releases_sort_as_their_numbers(a: tuple[int, int, int], b: tuple[int, int, int]) -> None:
    va, vb = ".".join(map(str, a)), ".".join(map(str, b))
    assert (a < b) == (semver.sort_key(va) < semver.sort_key(vb))
