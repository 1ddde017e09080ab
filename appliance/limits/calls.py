"""Bounds of calls, of the frames that carry them, and of the gRPC server."""

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

# --- memory that processes share -------------------------------------------------------------------------------------
# Regions that clients register; each costs a descriptor in every front-end and engine.
shared_regions_max = 256
shared_region_name_chars_max = 256
# A name in /dev/shm: NAME_MAX.
shared_region_key_bytes_max = 255
# What one call may have in regions, each way: the engine keeps a copy of the inputs meanwhile.
shared_call_bytes_max = 1024 * 1024 * 1024
# From here on tensors go to engines through memory that both sides map, and answers come back that way: below, the few
# microseconds more in Python cost as much as the copies that are saved (worker/README.md has the table).
arena_threshold_bytes = 64 * 1024
# An arena grows in such steps, up to the largest call of an untouched configuration; all arenas of a front-end together.
# What finds no room goes through the socket.
arena_step_bytes = 1024 * 1024
arena_bytes_max = 128 * 1024 * 1024
arenas_bytes_max = 256 * 1024 * 1024
# An arena that nobody has used for so long is given back.
arena_idle_ms_max = 30_000

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
# Unary calls that are open in one server: one without a message costs some kB, and no thread.
express_calls_max = 8192
# Requests of one stream that are read ahead and run side by side (one stream: 12,000 answers a second with 16, 20,000 with
# 64, where more of them share a batch and a write), and answers that wait for a slow reader.
stream_requests_ahead_max = 64
stream_answers_ahead_max = 64
# Fields of a large request that are looked at one by one in Python; what has more is protobuf's to parse.
# Above the inputs, raw contents, outputs and parameters that a request may have.
split_fields_max = 1024
# Fields of any large request: each empty one of two bytes becomes an object of some hundred. Above chat_messages_max.
message_fields_max = 8192
# Headers of a call: tokens and traces, and what proxies add.
metadata_bytes_max = 64 * 1024
