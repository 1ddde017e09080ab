"""What operators ask about the store itself, and the answers. Array-like: a field may only be added at the end."""

import msgspec

from appliance.said import Said


class StoreProblem(msgspec.Struct, frozen=True, array_like=True):
    """Something in the store that is not as it should be. ``kind`` is for scripts: store/problems.py lists them.

    ``place`` is relative to the state folder; ``models`` are the versions concerned, as name:version; ``file`` is the
    model's own name of what is damaged. ``todo``: what to do, or, of what was healed, what was done.
    """

    kind: str
    place: str
    wrong: str
    todo: str
    models: tuple[str, ...] = ()
    file: str = ""
    in_use: bool = False


class AskCheckStore(Said, tag="ask_check_store"):
    """Read all that is stored and say what is damaged; changes nothing. Answer: StoreReport; before it Progress."""


class AskRepairStore(Said, tag="ask_repair_store"):
    """Check, heal what can be healed, check again. Answer: StoreReport; before it Progress."""


class AskCollectGarbage(Said, tag="ask_collect_garbage"):
    """Remove what no version, desired state or pin needs. ``dry_run``: only say what that would be.

    ``set_aside``: also what repairs set aside as .broken. Answer: GarbageReport.
    """

    dry_run: bool = False
    set_aside: bool = False


class StoreReport(Said, tag="store_report"):
    """What a check found. At most ``limits.store_report_entries_max`` of each kind of entry; the counts are of all."""

    versions: int = 0
    blobs: int = 0
    bytes_read: int = 0
    problems: tuple[StoreProblem, ...] = ()
    problem_count: int = 0
    healed: tuple[StoreProblem, ...] = ()
    healed_count: int = 0
    # What earlier repairs have set aside, and the room that it takes.
    set_aside: int = 0
    set_aside_bytes: int = 0


class GarbageItem(msgspec.Struct, frozen=True, array_like=True):
    """Something that nothing needs: a blob, a view, a left-over, or something set aside."""

    kind: str
    place: str
    size_bytes: int


class GarbageReport(Said, tag="garbage_report"):
    """What is, or would be, removed. ``kept``: why unused blobs had to stay, a sentence for each version."""

    dry_run: bool = False
    items: tuple[GarbageItem, ...] = ()
    item_count: int = 0
    bytes_freed: int = 0
    kept: tuple[str, ...] = ()
