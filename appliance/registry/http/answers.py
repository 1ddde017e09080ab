"""What an answer's status, headers and body say, within bounds."""

import re
from collections.abc import Mapping

import msgspec
import urllib3

from appliance import limits
from appliance.clock import Clock
from appliance.errors import ApplianceError
from appliance.registry.http.connections import failure_of
from appliance.registry.http.retry import retry_after_s
from appliance.registry.http.urls import Origin
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable

_BUSY = (408, 425, 429)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:[0-9]{1,19}|\*)")
# An entity-tag that shows bytes to be the same: a strong one (RFC 9110, 8.8.3 and 13.1.5).
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]*"')
_ERROR_CODE = re.compile(r"[A-Z0-9_]{1,40}")
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,100}/[a-z0-9.+-]{1,150}")


class _Error(msgspec.Struct):
    code: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Error] = []


def header(headers: Mapping[str, str], name: str) -> str:
    """A header's value, "" without one. Raises Malformed for one that is too long."""
    value = headers.get(name, "")
    if len(value) > limits.http_header_chars_max:
        raise Malformed(f"the header {name} has {len(value)} characters")
    return value.strip()


def validator(headers: Mapping[str, str]) -> str:
    """The ETag, if it is a strong one of a sensible length."""
    value = headers.get("ETag", "").strip()
    return value if len(value) <= limits.validator_bytes_max and _STRONG_TAG.fullmatch(value) else ""


def is_validator(text: str) -> bool:
    """Whether it may go back into a header: it was kept in a file meanwhile."""
    return len(text) <= limits.validator_bytes_max and _STRONG_TAG.fullmatch(text) is not None


def media_type(headers: Mapping[str, str]) -> str:
    """Without parameters; "" for what is none."""
    value = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return value if _MEDIA_TYPE.fullmatch(value) else ""


def ranged_length(headers: Mapping[str, str], offset: int, length: int | None) -> int:
    """How many bytes a 206 brings. Raises Malformed when they are others than those asked for (RFC 9110, 14.4)."""
    value = header(headers, "Content-Range")
    found = _CONTENT_RANGE.fullmatch(value)
    first, last = (int(found[1]), int(found[2])) if found else (-1, -1)
    if first != offset or last < first or (length is not None and last >= offset + length):
        raise Malformed(f"asked for bytes from {offset} on, the server sends {value[:100]!r}")
    return last - first + 1


def check_identity(headers: Mapping[str, str]) -> None:
    """Raises Malformed for a compressed answer, which we didn't ask for."""
    encoding = header(headers, "Content-Encoding").lower()
    if encoding not in ("", "identity"):
        raise Malformed(f"the server sends it as {encoding[:50]!r}, though it was asked for the bytes as they are")


def failure(response: urllib3.BaseHTTPResponse, what: str, origin: Origin, now_s: float) -> ApplianceError:
    """The error of a status that is no success. Reads and closes the answer."""
    status = response.status
    code = error_code(response)
    said = f"{origin.netloc}: {what}: HTTP status {status}{f' ({code})' if code else ''}"
    if status in (401, 403):
        return Refused(said)
    if status in (404, 410):
        return Absent(said)
    if status in _BUSY or (status >= 500 and status not in (501, 505)):
        return Unreachable(said, retry_after_s=retry_after_s(response.headers.get("Retry-After", ""), now_s))
    if status >= 400:
        return Refused(said)
    return Malformed(said)


def error_code(response: urllib3.BaseHTTPResponse) -> str:
    """The first code of distribution-spec's error answer, "" when there is none. Closes the answer."""
    try:
        data = response.read1(limits.http_error_bytes_max, decode_content=False)
        if not response.closed and response.read1(1, decode_content=False):
            response.close()  # more than such an answer has: not worth reading to keep the connection
        code = msgspec.json.decode(data, type=_Errors).errors[0].code
        return code if _ERROR_CODE.fullmatch(code) else ""
    except (urllib3.exceptions.HTTPError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError):
        return ""
    finally:
        done(response)


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Reads a short body away, so that the connection can be used again; closes it behind a long one."""
    error_code(response)


def done(response: urllib3.BaseHTTPResponse) -> None:
    """Gives the connection back where the answer was read to its end, and closes it otherwise."""
    if not response.closed:
        response.close()
    response.release_conn()


def read_document(
    response: urllib3.BaseHTTPResponse, what: str, origin: Origin, clock: Clock, *, bytes_max: int
) -> bytes:
    """A small body, whole. Raises Malformed for one of more than ``bytes_max``, Unreachable for a slow or cut one."""
    until_ns = clock.monotonic_ns() + limits.http_document_s_max * 1_000_000_000
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := response.read1(limits.http_read_bytes, decode_content=False):
            size += len(piece)
            if size > bytes_max:
                raise Malformed(f"{origin.netloc}: {what} has more than the {bytes_max} bytes that are allowed")
            if clock.monotonic_ns() > until_ns:
                raise Unreachable(f"{origin.netloc}: {what} took more than {limits.http_document_s_max} s")
            pieces.append(piece)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise failure_of(error, origin) from None
    finally:
        done(response)
    return b"".join(pieces)
