"""Why a blob has to be fetched whole after all."""


class DeltaFailed(Exception):
    """The delta is given up; the whole download does what it would have done. ``reason`` is stable, for logs and tests.

    NO_INDEX: it can't be had, or is not what was signed.  BAD_INDEX: signed, and still not true.
    NOT_WORTH: it would save too little.                   SEED: a local blob is gone or has rotted.
    SOURCE: what came is not the blob, or refused.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
