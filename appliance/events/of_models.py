"""Models and their engines. Ids and names never change; see kind.py."""

from appliance.events.kind import Kind

MODEL_READY = Kind(
    "model.ready",
    "5b071d5cb79b484ba8e02ca9b56e7757",
    "A model is ready",
    "Version @VERSION@ of @MODEL@ is loaded and has passed its golden tests.",
    "Nothing.",
)
MODEL_LOAD_FAILED = Kind(
    "model.load_failed",
    "d0879d3be5c3489085736143bc12dcb0",
    "A model could not be loaded",
    "Version @VERSION@ of @MODEL@ can't be served: a file is damaged or not of a kind that this engine "
    "knows, a golden test failed, or a provider is missing. What served before goes on.",
    "The message and the engine's own lines before it say why. `appliance models show @MODEL@` shows the state.",
)
MODEL_MEMORY_REFUSED = Kind(
    "model.memory_refused",
    "dec790ab1d344549ab83e7d2f7313e48",
    "There is no memory for a model",
    "Version @VERSION@ of @MODEL@ needs more than the machine, or limits.memory_mib, allows.",
    "Unload another model, load fewer instances, take a smaller model or context, or add memory. "
    "`appliance doctor` shows the plan.",
)
MODEL_RUN_FAILED = Kind(
    "model.run_failed",
    "cac47b69d885459cbd4a11698b2001f4",
    "A model failed on a request",
    "The engine of @MODEL@ could not compute an answer. The caller got an error; the model serves on.",
    "Mostly shapes or indices in the request don't fit the model: tell whoever made the request. If every "
    "call fails, the model is wrong.",
)
MODEL_LIMITED = Kind(
    "model.limited",
    "b29c12494a104ba286c3993781a0ea40",
    "A model does less than it is asked to",
    "Something that model.toml or the file promises can't be had; the message says what. The rest works.",
    "Tell the model's owner; nothing has to be done on this machine.",
)
MODEL_PROVIDER_REFUSED = Kind(
    "model.provider_refused",
    "f12d496e15414273a14585991da2ea99",
    "A model does not run on the processor that was wished for",
    "An execution provider (a GPU, say) does not take this model: the next one of engines.providers does, more slowly.",
    "`appliance doctor` says what is missing for the provider.",
)
MODEL_GUESSING_FAILED = Kind(
    "model.guessing_failed",
    "c03bf5b5f60a4c9495c70b319ad9b3db",
    "Speculative decoding is off for now",
    "The draft model could not compute a step. Answers are the same, but slower.",
    "Nothing once. If it repeats, take the draft model out of model.toml.",
)
MODEL_GRAMMAR_FAILED = Kind(
    "model.grammar_failed",
    "4a9eb8fb6fad406da67f433ae3818232",
    "An answer's constraint failed while it was written",
    "The grammar or JSON Schema of a request was too complex for a bound. The caller got an error.",
    "The client should simplify the schema.",
)
MODEL_TEMPLATE_FAILED = Kind(
    "model.template_failed",
    "1afca718ac0e47fda50be458d49bfe99",
    "A chat template failed",
    "The model's template can't write these messages as a prompt. The caller got an error.",
    "Some templates want roles to alternate, or know no system or tool role: the client should change the "
    "messages, or model.toml the template.",
)
MODEL_MISSING = Kind(
    "model.missing",
    "dee12da4dae6432e986a2a0f5da78939",
    "A model that should run is not in the store",
    "Version @VERSION@ of @MODEL@ was active and its files are gone.",
    "Add it again: `appliance models add`, or let the registry bring it.",
)
MODEL_NOT_STARTED = Kind(
    "model.not_started",
    "ae1d8dd806de40538ab45702c92067ad",
    "A model could not be started",
    "Version @VERSION@ of @MODEL@ should run, and the machine has no process, socket or memory for it.",
    "Do as the message says, then `appliance models activate @MODEL@`.",
)
ENGINE_DIED = Kind(
    "engine.died",
    "d1d8440d5ed94c2cb12c9327f6b86f31",
    "An engine died",
    "The process that runs @MODEL@ ended by itself. Calls in its hands failed with UNAVAILABLE; it is "
    "started again, other models are not touched.",
    "Nothing once. If it repeats, the version is quarantined and the previous one comes back by itself; "
    "report the lines before this one.",
)
ENGINE_GIVEN_UP = Kind(
    "engine.given_up",
    "31b0acd667564442a1e810b644cbfa2e",
    "An engine is not started again",
    "The process that runs @MODEL@ died too often, or in its first trial.",
    "The version is quarantined; the previous one comes back where there is one. Publish a better "
    "version, or try again with `appliance models activate @MODEL@ --force`.",
)
ENGINE_HUNG = Kind(
    "engine.hung",
    "06c6d4dbc2e64b3084a2acd2baff3231",
    "An engine hung and was ended",
    "The engine of @MODEL@ gave no sign of life for the time that a step, or a load, may take. It is started again.",
    "If its steps are long by nature, raise engines.step_seconds_max (engines.load_seconds_max for a load).",
)
ENGINE_NO_CACHE = Kind(
    "engine.no_cache",
    "90717e2d3cfa4de38bf7404d150ab116",
    "What engines keep on disk can't be used",
    "Prepared graphs or prefixes can't be kept, read or removed. Nothing is lost but time.",
    "Look at the disk's room and at the permissions of the cache below the state folder.",
)
MODEL_ACTIVATED = Kind(
    "model.activated",
    "457b9b0f5694453996db35f5b7d78ad8",
    "A model is active",
    "Version @VERSION@ of @MODEL@ answers calls from now on.",
    "Nothing.",
)
MODEL_PROBATION_BEGAN = Kind(
    "model.probation_began",
    "09b1c536c155473c934f68a454d14aa5",
    "A new version is on probation",
    "Version @VERSION@ of @MODEL@ answers calls; the version before stays loaded until it has proven itself.",
    "Nothing. `appliance models show @MODEL@` shows how it does.",
)
MODEL_COMMITTED = Kind(
    "model.committed",
    "57c2c45e160c40d6be3b5c78ae271452",
    "A new version stays",
    "Version @VERSION@ of @MODEL@ has passed its probation.",
    "Nothing.",
)
MODEL_ROLLED_BACK = Kind(
    "model.rolled_back",
    "621e0cd7351d4314a52be8bfb3948748",
    "A version was rolled back",
    "Version @VERSION@ of @MODEL@ was worse than the one before, or somebody asked for it. The previous "
    "version answers calls again.",
    "Tell the model's owner. The version is not activated again unless it is forced.",
)
MODEL_ROLLBACK_FAILED = Kind(
    "model.rollback_failed",
    "193196ddb087410e92dd92d5d8e40da2",
    "A rollback was due and could not be done",
    "Version @VERSION@ of @MODEL@ is bad and still answers calls, because the previous one can't come back.",
    "Act: `appliance models rollback @MODEL@`, or activate another version.",
)
MODEL_VERDICT_WAITS = Kind(
    "model.verdict_waits",
    "221e584451374604872551682e1984dd",
    "The end of a probation could not be carried out yet",
    "What is to become of version @VERSION@ of @MODEL@ is decided; something is in the way, and it is tried again.",
    "Nothing, unless it stays so: the message says what is in the way.",
)
MODEL_DOWN = Kind(
    "model.down",
    "0fb92ee36a954e25b2554c96c60357cb",
    "A model has no version left that runs",
    "The engines of version @VERSION@ of @MODEL@ keep dying, and there is no good version before it. Calls fail with "
    "UNAVAILABLE.",
    "Act: activate another version (`appliance models list`), or add one. The lines before say how the engines died.",
)
MODEL_COMES_BACK = Kind(
    "model.comes_back",
    "0def4738a29649afb4436d2820553066",
    "The previous version comes back",
    "The engines of version @VERSION@ of @MODEL@ keep dying; the version before it is loaded, and takes over.",
    "Tell the model's owner.",
)
MODEL_QUARANTINED = Kind(
    "model.quarantined",
    "780489796cfe4bc5b9da64b117bd3d39",
    "A version is quarantined",
    "Version @VERSION@ of @MODEL@ is not activated again, neither by an update nor by hand.",
    "Publish a better version; `appliance models activate @MODEL@ --force` overrules it.",
)
MODEL_QUARANTINE_LIFTED = Kind(
    "model.quarantine_lifted",
    "59e456c830a1425e887a0ed644fd4293",
    "A quarantine was lifted",
    "Somebody has forced version @VERSION@ of @MODEL@.",
    "Nothing.",
)
MODEL_COMPARISON_BEGAN = Kind(
    "model.comparison_began",
    "1cbefe0787e345bf97ff55a316ee6ebc",
    "A candidate is compared with the active version",
    "Version @VERSION@ of @MODEL@ gets copies, or a share, of the calls.",
    "Nothing. `appliance models show @MODEL@` shows what was seen.",
)
MODEL_COMPARISON_ENDED = Kind(
    "model.comparison_ended",
    "9ecacef18880405ca0efc1cc34f3cbd2",
    "A comparison has ended",
    "The message says how, and with what result.",
    "Nothing, or what the result asks for.",
)
MODEL_COMPARISON_LOST = Kind(
    "model.comparison_lost",
    "904ae0db9284415883b52dd36e63d3c1",
    "A comparison could not go on, or could not be kept",
    "The candidate of @MODEL@ is not compared any more, or the record of it could not be written. Calls "
    "are not touched.",
    "Begin it again with `appliance models canary` or `shadow`; look at the disk's room.",
)
