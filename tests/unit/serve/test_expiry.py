"""When a certificate ends, read from its bytes, and what is said of it."""

import datetime
from pathlib import Path

import pytest
from certificates import Party, issue
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import TlsConfig
from appliance.serve.expiry import not_after_s, words
from appliance.serve.tls import Tls

DAY = 86_400
UTC = datetime.timezone.utc


def ending(at: datetime.datetime) -> Party:
    key = issue("x").key
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 60)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1990, 1, 1, tzinfo=UTC))
        .not_valid_after(at)
    )
    return Party(made.sign(key, hashes.SHA256()), key)


@pytest.mark.parametrize("year", [1999, 2027, 2049, 2050, 2150])
def test_the_end_is_read(year: int) -> None:
    at = datetime.datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    party = ending(at)
    assert not_after_s(party.pem) == at.timestamp()
    # A chain: the server's own comes first. And text before it, as openssl writes.
    assert not_after_s(b"subject=CN = x\n" + party.pem + issue("authority").pem) == at.timestamp()


@given(st.binary(max_size=300), st.integers(0, 400))
def test_damage_is_no_error(noise: bytes, at: int) -> None:
    pem = _PEM[:at] + noise + _PEM[at + len(noise) :]
    assert not_after_s(pem) is None or isinstance(not_after_s(pem), float)


_PEM = ending(datetime.datetime(2030, 1, 1, tzinfo=UTC)).pem


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        (30 * DAY, ""),
        (30 * DAY - 1, "expires in 29 days"),
        (DAY, "expires in 1 day"),
        (60, "expires in 0 days"),
        (0, "has expired"),
        (-DAY, "has expired"),
    ],
)
def test_what_is_said(left_s: float, said: str) -> None:
    found = words(1_800_000_000.0 + left_s, 1_800_000_000.0)
    assert found.endswith(said) if said.startswith("expires") else said in found
    assert bool(found) == bool(said)


def test_the_log_has_it_at_the_start_and_at_a_reload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soon = datetime.datetime.now(UTC) + datetime.timedelta(days=3, hours=1)
    ending(soon).write(tmp_path, "server")
    config = TlsConfig(certificate=str(tmp_path / "server.pem"), key=str(tmp_path / "server.key"))
    tls = Tls(config)
    assert caplog.messages == ["the server's certificate expires in 3 days"]
    assert vars(caplog.records[0])["facts"]["event"] == "certificate.expiring"
    tls._fetch()  # a handshake of the same day
    assert len(caplog.records) == 1
    ending(soon + datetime.timedelta(days=300)).write(tmp_path, "server")
    assert tls.reload(config) == ""
    assert len(caplog.records) == 1
