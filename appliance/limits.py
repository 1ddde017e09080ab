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
# What one stream may have waiting for a client that reads slowly, before its engine cancels it.
stream_backlog_bytes_max = 1024 * 1024

# --- language models -------------------------------------------------------------------------------------------------
prompt_bytes_max = 4 * 1024 * 1024
chat_messages_max = 4096
stop_strings_max = 16
stop_string_bytes_max = 256
logprobs_top_max = 20
embed_texts_max = 256
# A chat template is untrusted input out of the model file.
template_bytes_max = 1024 * 1024
template_output_bytes_max = 8 * 1024 * 1024
template_time_ms_max = 2000

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

# --- model folders and the store -------------------------------------------------------------------------------------
model_toml_bytes_max = 1024 * 1024
files_per_model_max = 1024
golden_tests_max = 64
model_bytes_max = 256 * 1024 * 1024 * 1024
upload_chunk_bytes = 1024 * 1024
