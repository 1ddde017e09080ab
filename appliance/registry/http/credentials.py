"""User names and passwords by server, from a file as `docker login` and `skopeo login` write it ("auths").

Read anew each time it is needed, which is once a token: passwords are replaced while we run.
"""

import base64
import binascii
import os
import stat
from typing import NamedTuple

import msgspec

from appliance import limits
from appliance.errors import FailedPrecondition

_REASON = "REGISTRY_CREDENTIALS"


class Login(NamedTuple):
    """Never logged: its repr says nothing."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(…)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617, UTF-8)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""


class _File(msgspec.Struct, frozen=True):
    auths: dict[str, _Entry] = {}


def find(path: str, netloc: str) -> Login | None:
    """Those of a server, ``host`` or ``host:port``. Raises FailedPrecondition with how to mend the file."""
    if not path:
        return None
    try:
        file = msgspec.json.decode(_read(path), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Not the error's text: it may quote a password.
        raise FailedPrecondition(
            f'{path} is no file of credentials: it needs {{"auths": {{"HOST": {{"auth": "…"}}}}}}', reason=_REASON
        ) from None
    for key, entry in file.auths.items():
        if _server(key) == netloc:
            return _login(path, key, entry)
    return None


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise FailedPrecondition(f"the credentials {path} cannot be opened: {error.strerror}", reason=_REASON) from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limits.http_credentials_bytes_max:
            raise FailedPrecondition(f"{path} is no file of credentials, or too large for one", reason=_REASON)
        if found.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise FailedPrecondition(
                f"others than its owner may read or change the credentials in {path}: chmod 600 {path}, and "
                "replace the passwords in it if others use this machine",
                reason=_REASON,
            )
        return os.pread(fd, limits.http_credentials_bytes_max, 0)
    finally:
        os.close(fd)


def _server(key: str) -> str:
    """As docker writes it, "host:port", and of old "https://host/v1/"."""
    return key.partition("://")[2].partition("/")[0].lower() if "://" in key else key.lower().rstrip("/")


def _login(path: str, key: str, entry: _Entry) -> Login:
    if not entry.auth:
        login = Login(entry.username, entry.password)
    else:
        try:
            user, _, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise FailedPrecondition(
                f'{path}: "auth" of {key} is not base64 of USER:PASSWORD', reason=_REASON
            ) from None
        login = Login(user, password)
    if not login.user or not login.password:
        raise FailedPrecondition(
            f"{path} has no user or no password for {key}: log in again without a credential helper", reason=_REASON
        )
    return login
