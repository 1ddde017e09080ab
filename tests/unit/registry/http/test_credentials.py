import base64
from pathlib import Path

import pytest

from appliance.errors import FailedPrecondition
from appliance.registry.http.credentials import Login, find

AUTH = base64.b64encode(b"box:open:sesame").decode()


def written(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "config.json"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("{}", None),
        ('{"auths": {"other": {"auth": "' + AUTH + '"}}}', None),
        ('{"auths": {"a:5000": {"auth": "' + AUTH + '"}}, "credsStore": "x"}', Login("box", "open:sesame")),
        ('{"auths": {"https://A:5000/v1/": {"auth": "' + AUTH + '"}}}', Login("box", "open:sesame")),
        ('{"auths": {"a:5000": {"username": "u", "password": "p"}}}', Login("u", "p")),
    ],
)
def test_a_servers_login(tmp_path: Path, text: str, login: Login | None) -> None:
    assert find(written(tmp_path, text), "a:5000") == login


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"auths": 1}',
        '{"auths": {"a:5000": {}}}',
        '{"auths": {"a:5000": {"auth": "sesame!"}}}',
        '{"auths": {"a:5000": {"auth": "Ym94"}}}',
        "[" * 100_000,
        " " * 300_000,
    ],
)
def test_files_that_hold_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(FailedPrecondition) as raised:
        find(written(tmp_path, text), "a:5000")
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o620, 0o601])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(FailedPrecondition, match="chmod 600"):
        find(written(tmp_path, "{}", mode), "a")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_file_that_a_group_may_read_is_not(tmp_path: Path, mode: int) -> None:
    assert find(written(tmp_path, "{}", mode), "a") is None


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FailedPrecondition):
            find(str(path), "a")
    assert find("", "a") is None


def test_a_login_never_shows_its_password() -> None:
    assert "sesame" not in f"{Login('box', 'sesame')!r} {Login('box', 'sesame')}"
