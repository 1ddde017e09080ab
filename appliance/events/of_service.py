"""The daemon itself: its start and end, its configuration and certificates, its processes. Ids and names never change; see kind.py."""

from appliance.events.kind import Kind

SERVICE_READY = Kind(
    "service.ready",
    "c20a08b30ef74367b8d86af3187150d2",
    "Inference Appliance is ready",
    "The daemon listens, and every model that the configuration requires takes calls.",
    "Nothing. `appliance status` shows the models.",
)
SERVICE_NOT_READY = Kind(
    "service.not_ready",
    "fd24a9528be7415586c64483b7a67601",
    "A required model takes no calls",
    "A model that models.required names is not loaded. The daemon serves the others, but its health is NOT_SERVING.",
    "See `appliance status` for the reason; load the model with `appliance models activate`, or take it "
    "from models.required.",
)
SERVICE_STOPPING = Kind(
    "service.stopping",
    "7d8179811c3c4e1a843508ae02dd223c",
    "Inference Appliance is stopping",
    "No new calls are taken. Running ones may finish within server.drain_seconds; then they are cancelled.",
    "Nothing, where somebody has asked for it.",
)
SERVICE_STOPPED = Kind(
    "service.stopped",
    "bafd1e5b0d6242e49459a8d2a4281d8d",
    "Inference Appliance has stopped",
    "All processes have ended in order.",
    "Nothing, where somebody has asked for it.",
)
SERVICE_REFUSED = Kind(
    "service.refused",
    "26af9d4e854043df850d80050379af16",
    "Inference Appliance cannot serve",
    "The daemon has ended at its start: the configuration, a folder, an address or another daemon is in "
    "the way. The message says which.",
    "Do as the message says; `appliance config check` and `appliance doctor` find most of it before a start.",
)
SERVICE_UNTOLD = Kind(
    "service.untold",
    "b3fefc9f744d4b078045dd3b9e9beb3a",
    "The service manager can't be told how the service stands",
    "What goes to systemd (ready, status, watchdog) does not arrive. If it stays so, systemd ends the service.",
    "Look at systemd's own log (`journalctl -b _PID=1`) and at the machine's memory.",
)
CONFIG_RELOADED = Kind(
    "config.reloaded",
    "162ef4b6dfb742a9b6153af2a444afa7",
    "The configuration has been reloaded",
    "What the message names is in force now. No call was dropped.",
    "Nothing.",
)
CONFIG_REFUSED = Kind(
    "config.refused",
    "d4c51fcab0944060ac8b14e59d2caafb",
    "The configuration was not reloaded",
    "Something in it, or in a certificate, is wrong. All of the configuration in force before stays in force.",
    "Correct what the message names, try `appliance config check`, and reload again. A restart with this "
    "configuration would fail.",
)
CONFIG_WRONG = Kind(
    "config.wrong",
    "df2254b6d7d847f5900ee33f58c6fda5",
    "The service can't start with this configuration",
    "A key is unknown, a value is not allowed, or a file that it names can't be used. systemd does not try again.",
    "Correct what the message names, try `appliance config check`, then start the service.",
)
CONFIG_WAITS = Kind(
    "config.waits",
    "b21f5efda1b441eb95a6d9e4b8887a34",
    "A part of the configuration waits for a restart",
    "Keys that ports, processes and folders were made with can't be changed while the daemon runs.",
    "Restart the service when it suits: `systemctl restart inference-appliance`.",
)
CERTIFICATE_RELOADED = Kind(
    "certificate.reloaded",
    "44a8c0431693434da3c246426c6864f5",
    "Certificates have been reloaded",
    "New connections get the new certificate; those that are open go on with the old one.",
    "Nothing.",
)
CERTIFICATE_REFUSED = Kind(
    "certificate.refused",
    "334051c31878474eac9207d664e5d534",
    "Certificates were not reloaded",
    "The files are missing, can't be read, or don't belong together. The old certificate stays in use "
    "until it expires.",
    "Correct what the message names and reload: `systemctl reload inference-appliance`.",
)
CERTIFICATE_EXPIRING = Kind(
    "certificate.expiring",
    "5e4c3379e229478d884285ce8e023a6c",
    "The server's certificate expires soon, or has expired",
    "From its end on, clients that verify the server refuse it. Each front-end says so once a day.",
    "Get a new certificate, put it where server.tls.certificate and key are, and reload: `systemctl reload "
    "inference-appliance`. If the date is wrong, look at this machine's clock.",
)
FRONT_END_DIED = Kind(
    "front_end.died",
    "d2561b6268984d9787a2f341409a1231",
    "A front-end died",
    "One of the processes that take calls ended by itself. Calls in its hands are lost; it is started "
    "again, others go on.",
    "Nothing once. If it repeats, report it with the lines before this one.",
)
FRONT_END_HUNG = Kind(
    "front_end.hung",
    "cedb5a181a5a43259b2b9e13dd1b2826",
    "A front-end hung and was ended",
    "The process gave no sign of life for 20 seconds. It is started again; calls in its hands are lost.",
    "Look whether the machine was out of memory or overloaded. If it repeats, report it.",
)
SYNC_DIED = Kind(
    "sync.died",
    "fdf489f9ac9e46598adb6e7418476c53",
    "The process that keeps the store died",
    "Serving goes on. Until it is started again no model can be added, removed or updated.",
    "Look at the lines before this one, and at the disk (`df`). If it repeats, report it.",
)
SYNC_HUNG = Kind(
    "sync.hung",
    "83b6936427a2419997521dfe33fe05fd",
    "The process that keeps the store hung and was ended",
    "It gave no sign of life for 20 seconds, mostly because a disk does not answer. It is started again.",
    "Look at the disk (`journalctl -k`, smartctl).",
)
PART_SLOW_STOP = Kind(
    "part.slow_stop",
    "6e209f2994e946b8bb8046f3493bf963",
    "A process did not stop in time",
    "It was ended by force while the daemon stopped or reloaded. Calls in its hands are lost.",
    "Nothing once. A longer server.drain_seconds gives running calls more time.",
)
CALL_FAILED = Kind(
    "call.failed",
    "c71b974eaab6465b9f4461446ef5ed65",
    "A call failed",
    "A client got an error. ERROR_REASON says why in a word, CLIENT who asked, REQUEST_ID which request "
    "(the id that the client gave, or that its error message names).",
    "Mostly the client has to change something: its error message says what. Many with one reason from "
    "one client point to a change there.",
)
CALL_CANCELLED = Kind(
    "call.cancelled",
    "e2d515e24ecf40de9c9dabc25b5e6b63",
    "Calls were cut off by a stop",
    "They still ran when server.drain_seconds were over.",
    "Raise server.drain_seconds if such calls are normal here.",
)
CALL_REGION_REFUSED = Kind(
    "call.region_refused",
    "3dbc9f9fa371477e823eedb8a59e2306",
    "Shared memory of a client can't be used",
    "A region that was registered can't be opened or mapped: it is gone, too small, or not for the daemon's user.",
    "Calls with it are refused. The client should register it again; permissions are described with shared memory.",
)
INTERNAL_FAULT = Kind(
    "internal.fault",
    "b89a2a1f476b4bc4b5cc359ff60d6343",
    "A fault inside the daemon",
    "Something happened that nobody foresaw. The one call or task that met it was given up; everything else goes on.",
    "Report it with this entry: `journalctl -o verbose` shows all of its fields, and the message the traceback.",
)
PRIORITY_REFUSED = Kind(
    "priority.refused",
    "c2507f2302224a0b82b6b638e756b0fe",
    "The system refuses a processor class",
    "Latency models, or the share of language models, can't be treated as the configuration asks. They "
    "run as everything else does.",
    "`appliance doctor` says what the machine must allow (LimitRTPRIO=, Delegate=cpu).",
)
ENGINE_NOT_SEALED = Kind(
    "engine.not_sealed",
    "eda2c683d9484797b2bbf6384629abe1",
    "An engine is not cut off from the network",
    "This kernel has no seccomp filter. The engine runs, but only systemd's own rules keep it from the network.",
    "Use a kernel with CONFIG_SECCOMP_FILTER.",
)
ENGINE_NO_PROFILE = Kind(
    "engine.no_profile",
    "de1ea316e8d4419b97ae093ca5d154e1",
    "A profile could not be made",
    "The measurement of a model's operators has failed. The model serves on.",
    "The message says why; mostly there is no room on the disk.",
)
