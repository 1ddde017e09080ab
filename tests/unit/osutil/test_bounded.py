"""Small files that may have grown."""

from pathlib import Path

import pytest

from appliance.osutil import bounded


def test_up_to_the_bound_and_not_beyond(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert bounded.read(tmp_path / "file", 5) == b"12345"
    with pytest.raises(bounded.TooLarge, match="file has more than 4 bytes") as caught:
        bounded.read(tmp_path / "file", 4)
    # Whoever asks for either of the two meets it.
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ValueError)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bounded.read(tmp_path / "file", 5)
