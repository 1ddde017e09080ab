"""Libraries of the extra ``publish``, loaded when a model needs them."""

import importlib
from typing import Any

from appliance.errors import FailedPrecondition


def needed(module: str, package: str) -> Any:
    """The module; raises FailedPrecondition LIBRARY_MISSING with what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FailedPrecondition(
            f"this needs {package} ({error}): install it, or everything with the appliance's extra `publish`",
            reason="LIBRARY_MISSING",
        ) from None
