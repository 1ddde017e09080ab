"""The table of all kinds of events in the log. The journal's catalogue is made from it (scripts/gen_catalog)."""

from appliance.events import of_models, of_service, of_store, of_updates
from appliance.events.kind import Kind
from appliance.events.of_models import *  # noqa: F403 - one name for all kinds
from appliance.events.of_service import *  # noqa: F403 - one name for all kinds
from appliance.events.of_store import *  # noqa: F403 - one name for all kinds
from appliance.events.of_updates import *  # noqa: F403 - one name for all kinds

ALL: tuple[Kind, ...] = tuple(
    kind
    for table in (of_service, of_models, of_updates, of_store)
    for kind in vars(table).values()
    if isinstance(kind, Kind)
)
BY_NAME: dict[str, Kind] = {kind.name: kind for kind in ALL}
