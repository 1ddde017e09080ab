"""What can be wrong in a store, and what is to be done about it: a table, and the words for the answer."""

from pathlib import Path
from typing import NamedTuple

from appliance.store.index import Key
from appliance.store.manifest import Descriptor
from appliance.store_questions import StoreProblem

_REPAIR = "run `appliance store repair`"
_ADD = "add the model folder again: `appliance models add FOLDER`"
_ADD_OR_REMOVE = f"{_ADD}, or remove the version"

# kind: what to do when a check finds it, and when it is left after a repair. The kinds are stable: scripts match on them.
TODO: dict[str, tuple[str, str]] = {
    "index": (_REPAIR, "make room on the disk and run `appliance store repair` again"),
    "index-entry": (_REPAIR, _ADD_OR_REMOVE),
    "manifest": (_ADD_OR_REMOVE, _ADD_OR_REMOVE),
    "blob-missing": (_REPAIR, _ADD),
    "blob-size": (_REPAIR, _ADD),
    "blob-rotten": (_REPAIR, _ADD),
    "blob-unreadable": (f"{_REPAIR}; the disk may be failing", f"{_ADD}; the disk may be failing"),
    "blob-not-a-file": (_REPAIR, _ADD),
    "view": (_REPAIR, "heal the blobs first, then run `appliance store repair` again"),
    "desired": (_REPAIR, "make room on the disk and run `appliance store repair` again"),
    "desired-version": (
        "add its folder again, or activate a version that is stored: `appliance models activate MODEL VERSION`",
    )
    * 2,
    "foreign": (_REPAIR, "remove it by hand"),
}
BLOB_KINDS = frozenset(kind for kind in TODO if kind.startswith("blob-"))

_MODELS_NAMED_MAX = 16


class Problem(NamedTuple):
    """One thing that is wrong. ``keys``: the versions concerned; ``blob``: what should be there, of a blob's problem.

    ``file``: the model's own name of it, or "manifest" or "config".
    """

    kind: str
    path: Path
    wrong: str
    keys: tuple[Key, ...] = ()
    file: str = ""
    blob: Descriptor | None = None
    in_use: bool = False

    @property
    def identity(self) -> tuple[str, Path, tuple[Key, ...]]:
        """The same in two checks when it is the same trouble, in whatever shape."""
        kind = "blob" if self.kind in BLOB_KINDS else self.kind
        return kind, self.path, () if kind == "blob" else self.keys

    def told(self, state: Path, *, todo: str = "", after_repair: bool = False) -> StoreProblem:
        """In the words of the answer."""
        return StoreProblem(
            kind=self.kind,
            place=self.path.relative_to(state).as_posix(),
            wrong=self.wrong,
            todo=todo or TODO[self.kind][after_repair],
            models=tuple(":".join(key) for key in self.keys[:_MODELS_NAMED_MAX]),
            file=self.file,
            in_use=self.in_use,
        )
