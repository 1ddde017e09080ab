"""STATE/comparisons.json: what is kept, and what is no such file."""

import pytest

from appliance.comparison import Comparison, Plan
from appliance.daemon import comparison_file


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff" * 100, b"[" + b" " * 2**20 + b"]", b'[["comparison"]]'])
def test_a_file_that_is_none_is_set_aside(tmp_path, data: bytes) -> None:
    (tmp_path / "comparisons.json").write_bytes(data)
    assert comparison_file.read(tmp_path) == []
    assert [p.name for p in tmp_path.iterdir()] == ["comparisons.json.broken"]
    assert comparison_file.read(tmp_path) == []


def test_the_newest_comparisons_are_kept(tmp_path) -> None:
    many = [Comparison(f"m{n}", "2", "1", Plan(), n + 1) for n in range(100)]
    comparison_file.write(tmp_path, reversed(many))
    assert comparison_file.read(tmp_path) == many[-64:]
