"""Updates and what they come from: the registry, its trust, a stick. Ids and names never change; see kind.py."""

from appliance.events.kind import Kind

UPDATE_STORED = Kind(
    "update.stored",
    "98c08898ba6c45d3a0e976b023ad5b66",
    "An update is stored",
    "Version @VERSION@ of @MODEL@ has come whole, and with the digest that its publisher signed.",
    "Nothing.",
)
UPDATE_REFUSED = Kind(
    "update.refused",
    "153a114453ec42d39a23a1f34ae933b7",
    "An update is refused",
    "What the registry offers is not signed as it must be, does not match what was signed, or breaks a "
    "rule of this box. What runs goes on.",
    "Tell the publisher; `appliance sync status` shows what is wrong. A signature that fails for no known "
    "reason may be an attack.",
)
UPDATE_NOT_FETCHED = Kind(
    "update.not_fetched",
    "0bf8b7bd70024cb585d42a8e2d84e9b0",
    "An update could not be fetched",
    "The download of version @VERSION@ of @MODEL@ broke off. It is tried again later and goes on where it stopped.",
    "Nothing once. If it stays so, look at the network and the disk (`appliance sync status`).",
)
UPDATE_NOT_ACTIVATED = Kind(
    "update.not_activated",
    "c665e94090c14f539c7e80e5337432b0",
    "An update is not activated",
    "Version @VERSION@ of @MODEL@ was refused by this box: it did not load, failed a golden test, or "
    "there is no room for it. The version before goes on.",
    "Tell the model's owner what the message says.",
)
UPDATE_NOT_COMPARED = Kind(
    "update.not_compared",
    "4889ee3b93f34608b38bb057fc8cac4d",
    "An update goes without its comparison",
    "Version @VERSION@ of @MODEL@ could not be loaded beside the active one; it goes straight into its probation.",
    "More memory, or registry.shadow_percent = 0 and canary_percent = 0.",
)
UPDATE_FAILED = Kind(
    "update.failed",
    "b6e5d3eaf2af4d30af86ba5cd609a6cf",
    "Updates could not be carried out",
    "Something in this machine is in the way of updates. What runs goes on, and it is tried again.",
    "Read the message and the traceback; `appliance sync status` shows the rest.",
)
REGISTRY_UNREACHABLE = Kind(
    "registry.unreachable",
    "16ac6fb3e43a4d29988833b648e0ea8b",
    "The registry can't be used",
    "It does not answer, refuses this box, or its metadata can't be verified. Models go on; it is asked "
    "again at each poll.",
    "Look at the network, the proxy, the credentials and this machine's clock; `appliance sync now` asks at once.",
)
REGISTRY_PASSED_OVER = Kind(
    "registry.passed_over",
    "4907f2acb2e342c88bd4ade468d082f5",
    "A mirror of the registry is passed over",
    "It did not answer, or what it has is not what it should be. The next one is asked.",
    "Nothing, as long as one works. Look at the mirror.",
)
TRUST_SET_ASIDE = Kind(
    "trust.set_aside",
    "3cc68c1e15cf4671a2f14a023934862e",
    "A record of trust was damaged and is set aside",
    "A file about the publisher's keys, or the time, can't be read. Its copy, or what the registry says again, counts.",
    "Look at the disk. If the trust itself is lost, `appliance registry trust` gives it anew.",
)
TRUST_INSTALLED = Kind(
    "trust.installed",
    "1f62edc61d3d48a589957fde11c514c2",
    "A root of trust was installed from the configuration",
    "None was installed before, and registry.root names one: releases that its keys vouch for may run here from now on.",
    "Nothing, if you expected it. If not: find out who changed the configuration.",
)
TRUST_REFUSED = Kind(
    "trust.refused",
    "b75347f404e64b028027055816b1544a",
    "The root of trust that the configuration names can't be used",
    "registry.root can't be read, or is no root of trust that is signed by its own keys. No release counts.",
    "Put the publisher's ROOT.json there, then `systemctl restart inference-appliance`; or install it with "
    "`appliance registry trust ROOT.json`.",
)
TRUST_NOT_KEPT = Kind(
    "trust.not_kept",
    "1c26d2ea3d7c4aa6b3b7e7a3276dca13",
    "A record of trust could not be written or removed",
    "What the registry said is used, but not remembered for the next start.",
    "Look at the disk's room and health.",
)
DEVICE_KEY_LOST = Kind(
    "device.key_lost",
    "4853f13c7a4844c090c04f15c5343705",
    "This machine's key was damaged",
    "A new key was made. The machine's signed status will not match the one that headquarters knows.",
    "Enrol the machine again at headquarters.",
)
DEVICE_UNSIGNED = Kind(
    "device.unsigned",
    "655d27b86ea64fcaadcee37c324610bf",
    "This machine's status could not be signed",
    "Nothing was written to the stick for headquarters.",
    "See the traceback; if the key's file is damaged, remove it and a new one is made.",
)
INDEX_REFUSED = Kind(
    "index.refused",
    "b0ad56cf471c4e51b5e624a2d8804049",
    "A chunk index is not used",
    "The list that makes updates small is not what it should be: files are fetched whole.",
    "Nothing on this machine; the publisher may publish the index again.",
)
