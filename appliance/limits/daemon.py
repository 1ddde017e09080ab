"""Bounds of supervision, of the processor and of the configuration."""

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

# Engines leave so much memory to everything else on the box: at least, and as a share (1/32) of what it has.
memory_reserve_bytes_min = 256 * 1024 * 1024
memory_reserve_share = 32
# How often engines are looked at. One thread that only touches new pages takes 0.3 to 0.6 GB in that time.
memory_watch_ms = 200
# When the box is short, an engine that has grown by less than this since its load isn't why.
memory_growth_bytes_min = 128 * 1024 * 1024
# As if half of the machine's memory were its own, for the kernel's choice of whom to end (proc(5), oom_score_adj).
engine_oom_score_adj = 500

# A front-end lets calls wait for its first routing table, until the store has been read; after this it answers anyway.
first_table_ms_max = 10_000

# --- the processor (worker/board.py) ---------------------------------------------------------------------------------
# Engines that have a place on the board, one cache line each; further ones do without.
board_slots_max = 256
# Latency-class work counts as being about for so long after a call: ten calls a second keep it so.
latency_recent_ms = 100
# Throughput work counts so for longer than a step lasts.
throughput_recent_ms = 2_000
# A throughput engine waits so long for its turn, then computes beside whoever has it: a hung engine must not stop others.
turn_wait_ms_max = 2_000
# How often it looks: a step lasts some ten milliseconds.
turn_look_us = 300
# Most prompt tokens of a language model's step while latency-class work is about.
prefill_step_tokens_yielding = 32

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
