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
# A part without a beat for so long gives no proof of life, and the service manager's watchdog isn't fed: five are missed.
# WatchdogSec= must leave room for the daemon's own recovery, which comes first: the silence above, a back-off, a start.
proof_of_life_ms_max = 5_000
# How much longer a start may take from each EXTEND_TIMEOUT_USEC=, told once a second; and a stop beyond its draining.
service_start_extension_ms = 30_000
service_stop_extension_ms = 15_000
# STATUS= is one line of `systemctl status`.
service_status_names_max = 4
service_status_chars_max = 400

# The log speaks of a server's certificate that ends soon (certificate_warn_days) once a day, while clients connect.
certificate_look_seconds = 86_400

# Engines leave so much memory to everything else on the box: at least, and as a share (1/32) of what it has.
memory_reserve_bytes_min = 256 * 1024 * 1024
memory_reserve_share = 32
# How often engines are looked at. One thread that only touches new pages takes 0.3 to 0.6 GB in that time.
memory_watch_ms = 200
# What an engine's control group may have beside its model's limit, twice, and the model's files.
engine_group_slack_bytes = 512 * 1024 * 1024
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

# --- probation of a new version (daemon/probation.py) ------------------------------------------------------------------
# What an update gets when nobody says: ten minutes see every client that polls at all. And what an operator may ask for.
probation_seconds_default = 600
probation_seconds_max = 7 * 86_400
# Engines tell their counts once a second: looking more often shows nothing new.
probation_look_ms = 1_000
# One or two failures are an accident, whatever a bound says of so few.
probation_faults_min = 3
# How much higher than before the share of failed calls may be: below 1 % nobody is woken for it.
probation_faults_tolerated = 0.01
# Bounds are taken at 99.9 % (3.29 standard deviations), not 95 %: the same counts are judged again every second.
probation_deviations = 3.29
# Of fewer calls of the previous version no share is known: any failures of the new one are then its own.
probation_baseline_calls_min = 100
# A median of fewer calls says little; for the slowest in a hundred it takes ten times as many.
probation_median_calls_min = 50
probation_slowest_calls_min = 500
# A version that takes twice as long, or whose slowest calls take three times as long, is another service. The floors: below
# them a factor is scheduling noise (a call of 0.3 ms is 0.6 ms under load), and no client sees it.
probation_median_factor = 2.0
probation_median_floor_ms = 5
probation_slowest_factor = 3.0
probation_slowest_floor_ms = 50
# Beyond the reserve that engines leave, the box must have this left for the previous version to stay loaded.
probation_room_bytes_min = 256 * 1024 * 1024
# Versions of one model that are remembered as bad, and what is remembered of why.
quarantined_versions_max = 64
quarantine_reason_chars_max = 500

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

# --- a candidate beside the active version (comparison.py) --------------------------------------------------------------
# What the configuration and the commands say when they don't say otherwise.
comparison_failed_max = 0.01
comparison_agreement_min = 0.98
comparison_latency_ratio_max = 1.5
comparison_calls_default = 200
comparison_seconds_default = 600.0
comparison_seconds_max = 7 * 86_400
comparison_calls_max = 999_999
comparison_latency_ratio_limit = 1000
# Of fewer pairs nothing is concluded at the end; before it, bounds decide (probation_deviations).
comparison_pairs_min = 20
# How often what is known is written down while a comparison runs: a flash card is not worn by it.
comparison_save_s = 60
# A comparison has 2 kB. Of more models than that the oldest are forgotten.
comparisons_kept = 64
comparisons_bytes_max = 1024 * 1024
# Copies that wait in a front-end, and their bytes: all, and of one, call and answer together.
copies_waiting_max = 64
copies_bytes_max = 8 * 1024 * 1024
copy_bytes_max = 1024 * 1024
# A copy that has no answer by then is given up.
copy_seconds_max = 60
# After each copy the thread rests as long as that took, at most so long: half of a processor is the callers' at least.
copy_rest_s_max = 1.0
# So many elements of an output are compared, spread over all of it: 0.6 ms of the front-end.
compare_elements_max = 1024
# Of a text, the characters that are kept to see whether both say the same.
compare_text_chars_max = 65_536

# The state folder's format: a number, in a file of some bytes; and how many copies of older ones are kept.
state_format_max = 1_000_000
state_stamp_bytes_max = 4096
state_backups_max = 3
