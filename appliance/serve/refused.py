"""Why a front-end cannot listen: a message for the operator, who reads it in the daemon's log."""


class ListenError(Exception):
    """Told to the supervisor as FrontEndRefused; unlike what clients get, it may name files and addresses."""
