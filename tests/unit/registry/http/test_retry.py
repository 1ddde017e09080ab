import email.utils

import pytest

from appliance import limits
from appliance.registry.http.retry import pause_s, retry_after_s

NOW_S = 1_700_000_000.0


def http_date(seconds: float) -> str:
    return email.utils.formatdate(NOW_S + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", 0.0),
        ("1.5", 0.0),
        ("\u0667", 0.0),
        ("9" * 90, 86400.0),
        ("9" * 5000, 0.0),
        ("tomorrow", 0.0),
        ("Fri, 99 Foo 2099 00:00:00 GMT", 0.0),
        (http_date(90), 90.0),
        (http_date(-90), 0.0),
        (http_date(1e7), 86400.0),
    ],
)
def test_retry_after(text: str, seconds: float) -> None:
    assert retry_after_s(text, NOW_S) == seconds


def test_pauses_grow_and_end() -> None:
    assert [pause_s(n, 0.0, lambda: 1.0) for n in range(1, limits.http_tries_max + 1)] == [1.0, 2.0, 4.0, 8.0, None]
    assert pause_s(3, 0.0, lambda: 0.0) == 0.0


def test_a_server_is_never_asked_sooner_than_it_wants_and_a_long_wait_is_the_callers() -> None:
    assert pause_s(1, 20.0, lambda: 0.5) == 20.5
    assert pause_s(1, limits.http_retry_cap_s + 1, lambda: 0.5) is None
