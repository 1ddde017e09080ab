"""Every bound of the system, its unit in its name and its reason beside it. What an operator may change is in config.py."""

from appliance.limits.calls import *  # noqa: F403 - one name for all bounds
from appliance.limits.daemon import *  # noqa: F403 - one name for all bounds
from appliance.limits.language import *  # noqa: F403 - one name for all bounds
from appliance.limits.logs import *  # noqa: F403 - one name for all bounds
from appliance.limits.models import *  # noqa: F403 - one name for all bounds
from appliance.limits.registry import *  # noqa: F403 - one name for all bounds
from appliance.limits.setup import *  # noqa: F403 - one name for all bounds
