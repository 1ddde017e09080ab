"""Bounds of the registry client, the publisher and the sync loop."""

# --- the publisher: keys, TUF metadata, files carried between signers --------------------------------------------------
# An encrypted Ed25519 key has 300 bytes.
publish_key_bytes_max = 16 * 1024
# python-tuf's clients read no larger file of a role (ngclient/config.py: targets_max_length); 5,000 releases of a line.
tuf_file_bytes_max = 5_000_000
# A timestamp names one file: 500 bytes (ngclient/config.py: timestamp_max_length).
tuf_timestamp_bytes_max = 16_384
# What python-tuf's clients walk (ngclient/config.py: max_delegations), top-level targets included.
publish_lines_max = 31
# All edited roles with their signatures.
signing_request_bytes_max = 16 * 1024 * 1024
# Keys of a role: a committee, not a crowd.
publish_keys_per_role_max = 16
# Earlier timestamps that are kept, to know the registry's as one of ours: a year at five releases or refreshes a day.
publish_timestamps_kept = 2_000
# Versions of every other role but root that stay in the publisher's folder: what went up last is among them.
publish_versions_kept = 50
publish_waves_max = 32
# Lines of "what changes" that a signer is shown; more than that is not something that a person has read.
signing_details_max = 500

# --- trust: TUF metadata as boxes read them ---------------------------------------------------------------------------
# Inlined in a manifest up to this size: a timestamp has 0.5 kB, a root 4, a line with 60 releases 50.
tuf_inline_bytes_max = 64 * 1024
# 64 KiB in base64 and the manifest around them.
tuf_manifest_bytes_max = 128 * 1024
# python-tuf's own bounds (ngclient/config.py): a root has 4 kB, a snapshot 100 bytes a line.
tuf_root_bytes_max = 512_000
tuf_snapshot_bytes_max = 2_000_000
# Roots that a box walks in one refresh: with four rotations a year, 64 years behind.
tuf_root_rotations_max = 256
# Roles that the client visits for one release: the top-level targets and its line.
tuf_delegations_max = 32
# All verified metadata that a box keeps: 30,000 releases.
tuf_set_bytes_max = 32 * 1024 * 1024
# One file of 5 MB at 64 kB/s; who sends slower blocks updates, as an attacker would.
tuf_fetch_s_max = 80
# scripts/tuf_client only: a connection, and a pause between two bytes.
tuf_connect_s_max = 10
tuf_stall_s_max = 30
# How much of the time that has passed a box may forget in a power cut; written more often it wears a flash card.
clock_floor_step_s = 3600
clock_floor_bytes_max = 4096
# A release's problems that are remembered of one line, for people.
tuf_problems_max = 20

# --- layouts: registries in a folder ----------------------------------------------------------------------------------
# An entry has 300 bytes: 50,000 of them.
layout_index_bytes_max = 16 * 1024 * 1024
layout_read_bytes = 1024 * 1024

# --- pulls ------------------------------------------------------------------------------------------------------------
# An ETag is a digest in quotes.
validator_bytes_max = 1024
# Tries in a row in which not a byte comes. Between two of them the source itself has waited (http/retry.py).
pull_idle_tries_max = 3
