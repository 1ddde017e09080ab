"""When the server's certificate expires, and what the log says of it. A front-end need not load a library for that.

Of a certificate's DER (RFC 5280, 4.1) only the way to ``validity`` is walked.
"""

import ssl
from datetime import datetime, timezone

from appliance import limits

# [0], the version, which certificates of version 1 lack; and the two kinds of time.
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def not_after_s(pem: bytes) -> float | None:
    """When the first certificate of a PEM file ends, in seconds since 1970; None when that can't be read."""
    try:
        text = pem.decode("ascii", "replace")
        first = text[text.index(_BEGIN) : text.index(_END) + len(_END)]
        der = memoryview(ssl.PEM_cert_to_DER_cert(first))
        _, certificate, _ = _element(der)
        _, signed, _ = _element(certificate)
        tag, _, rest = _element(signed)
        if tag == _VERSION:
            _, _, rest = _element(rest)  # the serial number
        for _ in range(2):  # the signature's algorithm, the issuer
            _, _, rest = _element(rest)
        _, validity, _ = _element(rest)
        _, _, rest = _element(validity)
        tag, ends, _ = _element(rest)
        return _seconds(tag, bytes(ends).decode("ascii"))
    except (ValueError, IndexError):
        return None


def words(ends_s: float | None, now_s: float) -> str:
    """What is to be said of a certificate that ends then; "" for nothing."""
    if ends_s is None:
        return ""
    left_s = ends_s - now_s
    if left_s <= 0:
        return "the server's certificate has expired: clients refuse it"
    days = int(left_s // 86_400)
    if days >= limits.certificate_warn_days:
        return ""
    return f"the server's certificate expires in {days} day{'' if days == 1 else 's'}"


def _element(data: memoryview) -> tuple[int, memoryview, memoryview]:
    """Tag, content and what follows of the first element. Raises IndexError or ValueError."""
    tag, length, begin = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, begin = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if begin + length > len(data):
        raise ValueError("an element is cut off")
    return tag, data[begin : begin + length], data[begin + length :]


def _seconds(tag: int, text: str) -> float:
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("no time")
    # RFC 5280 4.1.2.5.1: two digits from 50 on are of the last century, which strptime's %y takes from 69 on.
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
