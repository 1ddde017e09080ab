"""`appliance version`: what is installed here."""

import platform

from appliance import __version__
from appliance.cli import output


def version(as_json: bool = False) -> None:
    """Print the version of this command; `appliance status` tells the running daemon's.

    Example: appliance version --json
    """
    document = {"version": __version__, "python": platform.python_version(), "machine": platform.machine()}
    output.emit(document, as_json, lambda: output.say(f"appliance {__version__} (Python {document['python']})"))
