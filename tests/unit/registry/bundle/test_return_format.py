"""A status that goes back: signed as it is, believed only whole, and bounded on both sides."""

import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import limits
from appliance.registry.bundle import return_format
from appliance.registry.bundle.return_format import BadReturn, LineReport, Report, RoleReport

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw().hex()
REPORT = Report(
    "ward-7",
    12,
    1_800_000_000,
    "0.1.0",
    "the stick was pulled out",
    (LineReport("press", "2.0.0", ("1.0.0", "2.0.0"), ("1.5.0",), "2.0.0", "installed"),),
    (RoleReport("root", 3, 1_900_000_000),),
    ("the clock is 3 h behind",),
)


def signed(payload: bytes, key: Ed25519PrivateKey = KEY) -> bytes:
    """As a machine with this key would sign whatever it likes."""
    signature = key.sign(b"inference-appliance return 1\n" + payload).hex()
    public = key.public_key().public_bytes_raw().hex()
    return b'{"format":1,"signed":%s,"key":"%s","signature":"%s"}' % (payload, public.encode(), signature.encode())


def test_there_and_back() -> None:
    found = return_format.read(return_format.encode(REPORT, KEY))
    assert found == (REPORT, PUBLIC)
    assert found.report.root_version == 3
    assert json.loads(return_format.encode(REPORT, KEY))["signed"]["lines"][0]["active"] == "2.0.0"


def test_every_flipped_byte_is_seen() -> None:
    data = return_format.encode(REPORT, KEY)
    for at in range(len(data) - 1):
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            found = return_format.read(flipped)
        except BadReturn:
            continue
        # JSON's own freedom between the signed part and the rest.
        assert found == (REPORT, PUBLIC), at


def test_a_truncated_file_is_none() -> None:
    data = return_format.encode(REPORT, KEY).rstrip()
    for at in range(0, len(data), 7):
        with pytest.raises(BadReturn):
            return_format.read(data[:at])


def test_a_signature_of_other_words_by_the_same_key_is_none() -> None:
    payload = msgspec.json.encode(REPORT)
    bare = {"format": 1, "key": PUBLIC, "signature": KEY.sign(payload).hex()}
    data = json.dumps(bare)[:-1].encode() + b',"signed":' + payload + b"}"
    with pytest.raises(BadReturn, match="signature is wrong") as caught:
        return_format.read(data)
    assert caught.value.reason == "RETURN_FORGED"


def test_twice_the_same_field_is_the_one_that_was_signed() -> None:
    data = return_format.encode(REPORT, KEY)
    other = msgspec.json.encode(msgspec.structs.replace(REPORT, device="other"))
    # A decoder takes the last one, for the signature and for what is read of it.
    assert return_format.read(data.replace(b'"signed":', b'"signed":' + other + b',"signed":', 1)).report == REPORT
    with pytest.raises(BadReturn, match="signature is wrong"):
        return_format.read(data.replace(b',"key"', b',"signed":' + other + b',"key"', 1))


BASE = {"device": "a", "counter": 1, "at_s": 1, "appliance": "0.1.0"}


@pytest.mark.parametrize(
    "change",
    [
        {"device": "../../etc/passwd"},
        {"device": ""},
        {"device": ".hidden"},
        {"device": "a/b"},
        {"device": "a\x1b[31m"},
        {"device": "a\n"},
        {"device": "x" * 129},
        {"device": 7},
        {"counter": -1},
        {"counter": 1 << 53},
        {"counter": 10**400},
        {"counter": 1.5},
        {"counter": True},
        {"at_s": 10**12},
        {"at_s": -1},
        {"appliance": "x" * 501},
        {"lines": [{"line": "x"}] * 1025},
        {"lines": [{"line": "x", "stored": ["1"] * 33}]},
        {"lines": {"a": 1}},
        {"alarms": ["x"] * 1025},
        {"roles": [{"role": "root", "version": -1, "expires_s": 1}]},
        {"error": None},
    ],
    ids=lambda change: str(change)[:40],
)
def test_what_a_machine_may_not_say_even_if_it_signs_it(change: dict[str, object]) -> None:
    assert return_format.read(signed(json.dumps(BASE).encode())).report.device == "a"
    with pytest.raises(BadReturn):
        return_format.read(signed(json.dumps({**BASE, **change}).encode()))


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format":2,"signed":{},"key":"","signature":""}'],
)
def test_what_is_no_status(data: bytes) -> None:
    with pytest.raises(BadReturn):
        return_format.read(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [("format", 2), ("key", "0" * 64), ("key", "zz" * 32), ("key", PUBLIC.upper()), ("key", PUBLIC + "\n"),
     ("signature", ""), ("signature", "0" * 128)],
)  # fmt: skip
def test_what_goes_with_it_is_checked(field: str, value: object) -> None:
    data = json.loads(return_format.encode(REPORT, KEY))
    raw = return_format.encode(REPORT, KEY)
    old, new = (json.dumps(each).encode() for each in (data[field], value))
    with pytest.raises(BadReturn):
        return_format.read(raw.replace(b'"%s":%s' % (field.encode(), old), b'"%s":%s' % (field.encode(), new), 1))


def test_too_large_is_not_even_parsed() -> None:
    with pytest.raises(BadReturn, match="more than"):
        return_format.read(b" " * (limits.return_bytes_max + 1))


def test_what_a_machine_writes_it_can_always_be_read() -> None:
    longest = "\u00fc" * limits.return_text_chars_max
    many = tuple(
        LineReport(longest, longest, (longest,) * limits.return_versions_max) for _ in range(limits.return_entries_max)
    )
    data = return_format.encode(msgspec.structs.replace(REPORT, lines=many), KEY)
    assert len(data) <= limits.return_bytes_max
    report = return_format.read(data).report
    assert len(report.lines) + report.lines_left_out == limits.return_entries_max
    assert report.lines


def test_names_of_files() -> None:
    assert return_format.file_name("ward-7") == "ward-7.json"
    for name in ("", "..", "a/b", "a\0", ".x", "a" * 200):
        with pytest.raises(ValueError, match="cannot be"):
            return_format.file_name(name)
