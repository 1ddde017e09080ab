"""host:port."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:8001", Address("127.0.0.1", 8001), True),
        ("0.0.0.0:0", Address("0.0.0.0", 0), False),
        ("[::1]:8001", Address("::1", 8001), True),
        ("[0:0:0:0:0:0:0:1]:8001", Address("::1", 8001), True),
        ("[2001:db8::7]:65535", Address("2001:db8::7", 65535), False),
        ("localhost:1", Address("localhost", 1), True),
        ("localhost.example:1", Address("localhost.example", 1), False),
        ("box-7.ward_3.example.:1", Address("box-7.ward_3.example.", 1), False),
    ],
)
def test_good(text, address, loopback):
    assert parse_address(text) == address
    assert address.is_loopback is loopback
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "a", "a:", ":1", "a:b", "a:1:2", "a:+1", "a:٣", "a:99999", "[]:1", "[::1:1", "-a:1", "a-:1", "a..b:1",
     "1.2.3:1", "1.2.3.4.5:1", "a/b:1", "a b:1", "é:1", "x" * 64 + ":1", "[fe80::1%eth0/8]:x"],
)  # fmt: skip
def test_bad(text):
    with pytest.raises(ValueError, match=r"^(expected|the port|the host|what stands|an IPv6)"):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_a_valueerror(text):
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address
