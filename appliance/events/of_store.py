"""The store of models, and what the daemon keeps on disk. Ids and names never change; see kind.py."""

from appliance.events.kind import Kind

STORE_DAMAGED = Kind(
    "store.damaged",
    "ccc9957e902b4e2593672f5b818a6356",
    "The store is damaged",
    "A stored file is not what its name says: a bad disk, or somebody has changed it. A damaged model is not loaded.",
    "`appliance store check` names all of it, `appliance store repair` mends what it can. Look at the disk (smartctl).",
)
STORE_REPAIRED = Kind(
    "store.repaired",
    "359db347c93342138af711f64dc2d668",
    "The store was repaired",
    "A damage was mended: fetched again, or rebuilt from what was whole.",
    "Look at the disk (smartctl) if it repeats.",
)
STORE_NOT_REPAIRED = Kind(
    "store.not_repaired",
    "10557c3ff7bd4c4da8a7bfd07db2ca10",
    "A damage of the store could not be mended",
    "What is missing is not here, and no registry or stick has it.",
    "Add the model's folder again, or remove the version; `appliance store check` shows what is left.",
)
STORE_INDEX_REBUILT = Kind(
    "store.index_rebuilt",
    "cff46260ebc94cfe881dd400d5f4a5af",
    "The store's index was rebuilt",
    "The list of stored versions was lost or damaged, and made again from the models themselves.",
    "See whether all models are listed: `appliance models list`.",
)
STORE_UNKEMPT = Kind(
    "store.unkempt",
    "6132f5474c51419681db7f11306e5b30",
    "The store could not be tidied up",
    "Something that is not needed any more could not be removed. Models are not touched.",
    "Nothing: it is tried again. Look at the disk if it repeats.",
)
STORE_BLOBS_KEPT = Kind(
    "store.blobs_kept",
    "fbf0991d1d94440e98a4bc7d88037232",
    "Unused files are kept",
    "What may still be needed by something that can't be read now is not removed.",
    "Mend what the message names; then `appliance store gc` removes them.",
)
DISK_SHORT = Kind(
    "disk.short",
    "59a5def073b648b38ab75d8b60511763",
    "The disk is short of room",
    "There is no room even for a small reserve. Updates are refused until there is.",
    "Remove versions (`appliance models remove`), or enlarge the disk.",
)
RECORD_SET_ASIDE = Kind(
    "record.set_aside",
    "a91f7f05ac2d4c6f8057d69a63cc15b0",
    "A record was damaged and is set aside",
    "A file of the daemon's state can't be read. It is kept as .broken; its second copy, or nothing, takes its place.",
    "See what the message names. If what should run is lost, activate the models again.",
)
RECORD_NOT_KEPT = Kind(
    "record.not_kept",
    "0ab4a3be38c946fc86c4b4098bff2529",
    "A record could not be written",
    "The daemon goes on with what it knows, but a restart may not know it.",
    "Look at the disk's room and health.",
)
