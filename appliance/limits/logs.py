"""Bounds of the log: what one line may hold, and how many there may be."""

# A line is for a person: what is longer is cut. Fields are names, ids and reasons.
log_message_chars_max = 4_000
log_field_chars_max = 512
# What ONNX Runtime says of a call that failed, which a client may bring about.
runtime_error_chars_max = 500
# The last calls of a traceback say most; a deep recursion writes a thousand.
log_traceback_chars_max = 12_000
# Lines of one kind, with one reason and about one model, that are written down in a window; of what comes on top only the
# number is. A client that sends bad calls as fast as it can then costs 42 lines a minute, not 100,000.
log_burst = 20
log_window_ms = 30_000
# Of one kind whatever the reason and the model, which a client can make up; and of a process in all. The unit's
# LogRateLimitBurst= has room for 20 such processes.
log_event_burst = 100
log_lines_window_max = 1_000
# The journal takes a record in some microseconds. When it doesn't (it is restarted, its disk hangs), nothing waits longer
# than this, and for the next second records go to standard error.
journal_wait_ms_max = 100
journal_rest_ms = 1_000
