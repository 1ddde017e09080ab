"""Who this machine is to its publisher: an Ed25519 key made here once, and a counter that only rises.

    <state>/trust/device.key        PKCS#8 PEM, mode 0600; it never leaves the machine
    <state>/trust/return_counter    of the last status that was signed

A key that has decayed is set aside and another one made: headquarters then sees a changed key and asks.
"""

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance import events, limits
from appliance.osutil import bounded, durable
from appliance.store.aside import take_away
from appliance.store.manifest import digest_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_log = logging.getLogger(__name__)

_KEY_BYTES_MAX = 4096
_COUNTER_BYTES_MAX = 256


class _Counter(msgspec.Struct, frozen=True):
    """``check``: a flipped bit in a number is still a number."""

    counter: int
    check: str


class DeviceKey:
    """The key and the counter in ``folder``. One owner: the sync process."""

    def __init__(self, folder: Path) -> None:
        self._key_path = folder / "device.key"
        self._counter_path = folder / "return_counter"

    def load(self) -> "Ed25519PrivateKey":
        """The key, made where there is none yet. Raises OSError."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        with contextlib.suppress(FileNotFoundError):
            try:
                key = serialization.load_pem_private_key(bounded.read(self._key_path, _KEY_BYTES_MAX), None)
                if isinstance(key, Ed25519PrivateKey):
                    return key
                raise ValueError("another kind of key")
            except (ValueError, TypeError) as error:
                _log.error(
                    "%s cannot be read (%s): it is set aside, and a new key is made",
                    self._key_path.name,
                    error,
                    extra=events.DEVICE_KEY_LOST.of(),
                )
                take_away(self._key_path)
        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        durable.mkdir(self._key_path.parent)
        durable.write(self._key_path, pem, mode=0o600, point="return.key")
        return made

    def next_counter(self, now_s: int) -> int:
        """Higher than every one before, on disk before it is used. Raises OSError.

        Should the file be lost, the time is what headquarters has not seen yet either.
        """
        counter = max(self._last_counter() + 1, now_s)
        if counter > limits.return_number_max:
            raise OverflowError(f"the counter of statuses is at {counter}")
        encoded = msgspec.json.encode(_Counter(counter, _check(counter)))
        durable.mkdir(self._counter_path.parent)
        durable.write(self._counter_path, encoded, point="return.counter")
        return counter

    def _last_counter(self) -> int:
        try:
            found = msgspec.json.decode(bounded.read(self._counter_path, _COUNTER_BYTES_MAX), type=_Counter)
            if found.check == _check(found.counter) and found.counter >= 0:
                return found.counter
            problem = "another check"
        except FileNotFoundError:
            return 0
        except (ValueError, RecursionError) as error:
            problem = str(error)
        _log.warning(
            "%s cannot be read (%s): the time counts instead",
            self._counter_path.name,
            problem,
            extra=events.RECORD_SET_ASIDE.of(),
        )
        return 0


def _check(counter: int) -> str:
    return digest_of(b"return %d" % counter)
