"""Every bound of the system, its unit in its name and its reason beside it. What an operator may change is in config.py."""

# --- names -----------------------------------------------------------------------------------------------------------
# A model's name becomes part of paths, OCI references and metric labels; OCI allows 128 for a tag.
model_name_chars_max = 96
version_chars_max = 64

# --- a call ----------------------------------------------------------------------------------------------------------
# Tensors in one request: the largest published networks have some dozens of inputs; more is an attack or a mistake.
tensors_per_call_max = 256
# Axes of a tensor: ONNX has no bound, numpy stops at 64, nothing real passes 8.
tensor_rank_max = 16
# Parameters of one request, and of one tensor.
parameters_max = 64
# What a parameter's string may hold; a JSON of sampling options is well below.
parameter_string_bytes_max = 64 * 1024
# A request id is echoed and logged.
request_id_chars_max = 256

# --- frames between processes ----------------------------------------------------------------------------------------
# The header of a frame is names, shapes and parameters or a prompt: never tensor bytes.
frame_header_bytes_max = 16 * 1024 * 1024
# The body of a frame: above the largest gRPC message that the configuration allows.
frame_body_bytes_max = 2 * 1024 * 1024 * 1024
# Buffers that one sendmsg takes: UIO_MAXIOV (limits.h, IOV_MAX); more of them are refused with EMSGSIZE.
send_pieces_max = 1024
# What one stream may have waiting for a client that reads slowly, before its engine cancels it.
stream_backlog_bytes_max = 1024 * 1024
# From here on the engine makes that stream wait, so that only an answer already in the making is added to it.
stream_backlogged_bytes = 64 * 1024
# A stream that has waited so long for its client is cancelled: its room in the cache is others'.
slow_reader_ms_max = 30_000

# --- language models -------------------------------------------------------------------------------------------------
prompt_bytes_max = 4 * 1024 * 1024
chat_messages_max = 4096
stop_strings_max = 16
stop_string_bytes_max = 256
logprobs_top_max = 20
embed_texts_max = 256
rerank_documents_max = 256
# Answers to one prompt; each is a sequence of its own.
choices_max = 16
stop_token_ids_max = 64
logit_bias_max = 1024
# A bias beyond this decides alone; so much is what OpenAI's interface allows, and what clients send.
logit_bias_abs_max = 100.0
adapter_name_chars_max = 96
adapters_max = 32
pinned_prefixes_max = 16
# Keys and values of one token of a prefix that is kept on disk: the hungriest models in use (no grouped heads, 48 layers
# of 7,168 numbers, 16 bits each) have 1.4 MB.
spilled_token_bytes_max = 4 * 1024 * 1024
# What a file of such a prefix says of itself, beside the token ids.
spilled_identity_bytes_max = 4096
# Schemas, expressions and grammars of one call; the largest in use (tool catalogues) have some 50 kB.
constraint_bytes_max = 256 * 1024
# Brackets within brackets of a schema or grammar, so that no recursive parser runs out of stack.
constraint_depth_max = 64
constraint_choices_max = 1024
# llguidance's time grows with the square of these, and no fuel of its own stops it: measured (constrain/README.md), each
# is compiled within 0.2 s. A regular expression, or all those of one schema together:
constraint_regex_bytes_max = 4 * 1024
# The expressions of a Lark grammar together.
constraint_grammar_regex_bytes_max = 8 * 1024
# How often a part of one may repeat, counts of groups around it multiplied: each repetition costs a step to see past.
constraint_repetitions_max = 10_000
# Values in a schema that are lists, objects or entries of them, as in some 400 properties.
constraint_schema_nodes_max = 4_000
# Properties of one object: each optional one may be next, which is four of the 2,000 items that a row may have.
constraint_properties_max = 400
# Patterns that allOf and its kind may lay over each other: the time grows with the cube of their number, 16 take 60 ms.
constraint_merged_patterns_max = 16
# Each is compared with every other one.
constraint_pattern_properties_max = 16
# An automaton of so many states is built for the remainders of a division.
constraint_multiple_of_max = 10_000
# Repetitions (? * + {}) in the rules of a grammar.
constraint_rule_repetitions_max = 1_000
# A Lark or GBNF grammar without the schemas in it; the grammar of C has 10 kB.
constraint_grammar_bytes_max = 32 * 1024
# GBNF is read by a script in Python: 60 ms for so much.
constraint_gbnf_bytes_max = 16 * 1024
# Compiled grammars that are kept, and the bytes of their sources; each is some 100 kB to 1 MB in llguidance.
grammar_cache_entries_max = 64
grammar_cache_bytes_max = 1024 * 1024
# llguidance recurses over references between definitions, each of which takes some 4 kB of stack.
constraint_stack_bytes = 128 * 1024 * 1024
tools_max = 128
tool_name_chars_max = 64
tool_description_bytes_max = 16 * 1024
# Arguments that a conversation repeats, and that a model may write.
tool_arguments_bytes_max = 256 * 1024
tool_calls_per_message_max = 64
# Ids that a conversation brings back: those in use have some 50 characters.
tool_call_id_chars_max = 256
client_name_chars_max = 256
# A chat template is untrusted input out of the model file.
template_bytes_max = 1024 * 1024
template_output_bytes_max = 8 * 1024 * 1024
template_time_ms_max = 2000
# What rendering may add to the engine's memory: strings double with every `x ~ x`.
template_memory_bytes_max = 256 * 1024 * 1024
# Numbers in templates are counts and indices; 9**9**9 would hold the interpreter for hours.
template_number_bits_max = 4096
# What a template says with raise_exception() is told to the client, up to here.
template_message_chars_max = 500
# The context of a model that names none: its KV cache must fit a small box.
context_tokens_default_max = 8192
context_tokens_max = 16 * 1024 * 1024
# A text to embed is computed in one piece (pooling sees only one micro-batch), whose buffers grow with its square.
embed_tokens_max = 2048
# llama.cpp's own bound of sequence ids (LLAMA_MAX_SEQ).
sequences_max = 256
# A recurrent model (Mamba and its kind) keeps a whole state for each sequence, whether it is used or not.
recurrent_sequences_max = 8
# Room in the KV cache that must be left, beside its prompt, when a call starts: or it would soon be set back again.
start_room_tokens = 32
# A prompt waits for another that computes the same beginning now, when that spares it so many tokens.
follow_tokens_min = 8
# Where a call without a priority stands among those that have one (1 is the highest).
priority_default = 4
# One step of a language model. The daemon's own limit (engines.step_seconds_max) ends the process; this one only the
# calls of that step, and comes first.
decode_ms_max = 30_000
# Steps in a row for one adapter while others wait for their turn: each change makes llama.cpp build its graph anew.
adapter_turn_steps = 4
# Clients whose share of the machine is remembered after their last call.
clients_remembered_max = 1024
# Most tokens of one prefill step. Measured on two cores (SmolLM2-135M): 280 tokens/s in steps of 128 (0.46 s each), 292
# in steps of 512 (1.75 s each): a long step buys 4 % and costs everybody else a second.
prefill_step_tokens_max = 128
# Streams that run may be slowed to steps of this length, whatever they take alone: 12 tokens a second can be read along,
# and smaller pieces make prompts wait.
prefill_step_ms_min = 80
# Texts computed together for embeddings and reranking: so many, of so many tokens in all unless one alone has more.
embed_sequences_max = 16
embed_step_tokens = 512
# Guessed tokens of one sequence in one step, and of all of them: each is a row of logits, and likely enough guesses for
# more do not pay (engine/llama/speculate/payoff.py).
speculation_guesses_max = 16
speculation_step_guesses_max = 64
# Prompt look-up remembers so much of a text, at most twice of it between two clean-ups (some 200 bytes a token), ...
lookup_window_tokens = 16_384
# ... and begins no further text when all together have so many (50 MB).
lookup_tokens_max = 262_144
# New tokens that one step takes into the look-up: 2 ms; a longer prompt is known some steps later.
lookup_step_tokens_max = 8_192
# Earlier places that are compared for the longest match: the latest of them predict best.
lookup_candidates_max = 16
# Sequences that a draft model guesses for at once: on the machines that it is for, more never pay.
draft_sequences_max = 32
# Tokens of one step of a draft model that catches up with a long prompt: others wait for it.
draft_step_tokens_max = 128
# Calls that wait in an engine when neither model.toml nor the daemon says how many.
engine_queue_default_max = 128

# --- ONNX models -----------------------------------------------------------------------------------------------------
# Rows computed together when model.toml doesn't say: beyond, one more row costs what it costs alone (forest: 66 us for 64
# rows), and everybody in the batch waits for all of it.
batch_rows_default_max = 64
# A model of the latency class that waited longer for company would not be one.
batch_wait_us_max = 1_000_000
batch_rows_preferred_max = 16
# Files of one chain.
chain_files_max = 8
# Sequences of one model, and how long an idle one may be kept.
tensor_sequences_max = 65_536
sequence_idle_seconds_max = 86_400
sequence_states_max = 16
# A string that names a sequence.
sequence_id_chars_max = 256
# Engine processes of one version.
instances_max = 64
output_unit_chars_max = 64
output_description_chars_max = 1_000
# How long operators may be measured, and what the measurement may have.
profile_seconds_max = 300
profile_bytes_max = 256 * 1024 * 1024

# --- memory that processes share -------------------------------------------------------------------------------------
# Regions that clients register; each costs a descriptor in every front-end and engine.
shared_regions_max = 256
shared_region_name_chars_max = 256

# --- GGUF headers (untrusted) ----------------------------------------------------------------------------------------
# The format's own bound of a key; longer names of tensors than 64 are refused by ggml too.
gguf_key_bytes_max = 65_535
gguf_tensor_name_bytes_max = 63
gguf_keys_max = 65_536
gguf_tensors_max = 1_000_000
gguf_dims_max = 4
# The largest vocabularies have 262,144 tokens and twice as many merges.
gguf_array_elements_max = 16 * 1024 * 1024
# The longest strings in real headers are chat templates and precompiled character maps (some 100 kB).
gguf_string_bytes_max = 16 * 1024 * 1024
# llama.cpp's LLAMA_MAX_LAYERS, which it asserts.
gguf_layers_max = 512
gguf_alignment_max = 1024 * 1024

# --- supervision -----------------------------------------------------------------------------------------------------
# A child that stayed up this long starts again with a fresh back-off (pebble's okay-delay).
okay_delay_ms = 5_000
restart_backoff_ms_min = 100
restart_backoff_ms_max = 10_000
# More deaths than this within the window: the model is quarantined.
restarts_in_window_max = 5
restart_window_ms = 60_000
# A call that arrives while its engine is being restarted waits this long for it, then gets UNAVAILABLE.
engine_hold_ms_max = 5_000
# Every child says at least this often that its work loop turns.
beat_interval_ms = 1_000
# Front-ends and the sync process that have not beaten for this long are killed and started again.
beat_silence_ms_max = 20_000

# A front-end lets calls wait for its first routing table, until the store has been read; after this it answers anyway.
first_table_ms_max = 10_000

# --- model folders and the store -------------------------------------------------------------------------------------
model_toml_bytes_max = 1024 * 1024
files_per_model_max = 1024
# Folders in folders in a model folder.
model_path_depth_max = 8
# A manifest names at most files_per_model_max files; what is larger is no manifest of ours and is not parsed.
manifest_bytes_max = 4 * 1024 * 1024
golden_tests_max = 64
model_bytes_max = 256 * 1024 * 1024 * 1024
upload_chunk_bytes = 1024 * 1024

# --- engines ---------------------------------------------------------------------------------------------------------
# Nesting of messages in an ONNX file: protobuf itself stops at 100.
onnx_depth_max = 100
# A path inside the model's folder.
external_location_bytes_max = 4096
# Labels of a classifier: the largest public sets (ImageNet-21k) have 0.5 MB.
labels_bytes_max = 16 * 1024 * 1024
# Arrays of a golden test.
golden_file_bytes_max = 256 * 1024 * 1024
# All steps that one golden test may take; a model that needs longer is not fit to serve.
golden_test_ms_max = 60_000
# Which sets of outputs clients ask for is remembered, so that a call costs one dictionary look-up.
output_plans_max = 64
# The script of a fake engine.
fake_script_bytes_max = 64 * 1024

# --- configuration ---------------------------------------------------------------------------------------------------
# The file has some twenty keys; anything larger is not a configuration file.
config_file_bytes_max = 1024 * 1024
config_drop_ins_max = 256
# sockaddr_un.sun_path holds 108 bytes with the closing zero (unix(7)).
unix_socket_path_bytes_max = 107
# What the operator may set, at the most; below, a mistake is likelier than a wish.
config_message_mib_max = 1024
config_front_ends_max = 256
config_threads_max = 4096
config_drain_seconds_max = 3600
config_engine_threads_max = 1024
config_queue_max = 65_536
config_engine_seconds_max = 86_400
config_required_models_max = 1024

# --- gRPC ------------------------------------------------------------------------------------------------------------
# A status message travels in a header; clients take 8 KiB of headers in all unless told otherwise.
status_message_chars_max = 2000
# Elements of one tensor: beyond this the product of the axes is a mistake or an attack, whatever the bytes.
tensor_elements_max = 2**48
# How much of a name that a client sent is shown to it again.
quoted_chars_max = 120
# A client that only keeps its connection alive may do so this often.
keepalive_ms_min = 10_000
# Health watchers: one for each monitor and each model; they hold no thread.
health_watchers_max = 1024
# A watcher that takes no message for so long is let go, and as many threads as this send: the others must not wait.
health_send_ms_max = 5_000
health_senders = 4
# Fields of a large request that are looked at one by one in Python; what has more is protobuf's to parse.
# Above the inputs, raw contents, outputs and parameters that a request may have.
split_fields_max = 1024
# Fields of any large request: each empty one of two bytes becomes an object of some hundred. Above chat_messages_max.
message_fields_max = 8192
# Headers of a call: tokens and traces, and what proxies add.
metadata_bytes_max = 64 * 1024
