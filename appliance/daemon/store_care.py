"""Operators' questions about the store itself: passed on to the sync process, and what a repair changes taken over."""

import logging

from appliance import events
from appliance.daemon.models import Models, TellProgress
from appliance.daemon.sync_link import SyncLink, catalogue
from appliance.errors import ApplianceError
from appliance.questions import Answer, Progress
from appliance.store_questions import AskCheckStore, AskCollectGarbage, AskRepairStore

_log = logging.getLogger(__name__)

StoreQuestion = AskCheckStore | AskRepairStore | AskCollectGarbage


async def answer(question: StoreQuestion, sync: SyncLink, models: Models, tell: TellProgress) -> Answer:
    """The sync process's answer. Raises what it refuses with."""
    said = await sync.ask(question, tell)
    if isinstance(question, AskRepairStore):
        await _take_over(sync, models)
        await _start_what_should_run(models, tell)
    return said


async def _take_over(sync: SyncLink, models: Models) -> None:
    """Versions that are whole again may be activated, those that are not may not; what runs stays as it is."""
    stored = await catalogue(sync)
    keys = {(model.name, model.version) for model in stored.models}
    for model, engines, _ in list(models.rows()):
        if engines is None and (model.name, model.version) not in keys:
            models.inventory.drop(model)
    for model in stored.models:
        models.inventory.put(model)
    for desired in stored.desired:
        models.inventory.wish(desired)
    models.publish()


async def _start_what_should_run(models: Models, tell: TellProgress) -> None:
    """Versions that should run and could not, because they were damaged."""
    idle = {(model.name, model.version) for model, engines, _ in models.rows() if engines is None}
    for name, version in list(models.inventory.all_wanted()):
        if (name, version) not in idle:
            continue
        beside = models.inventory.active_version(name) != version
        try:
            tell(Progress(f"starting {name} {version}, which should run"))
            await models.activate(name, version, beside=beside, keep_previous=True, tell=tell)
        except (ApplianceError, OSError) as error:
            facts = events.MODEL_NOT_STARTED.of(name, version)
            _log.error("%s:%s should run and is whole again, but: %s", name, version, error, extra=facts)
