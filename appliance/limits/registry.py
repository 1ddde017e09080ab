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
# What is read at once of a blob. A download holds three such pieces, and 16 may run side by side.
pull_read_bytes = 256 * 1024

# --- delta: chunk indexes and ranged reads ----------------------------------------------------------------------------
# 36 bytes a chunk: 70 GiB of blobs in chunks of 256 KiB. A publisher leaves out what doesn't fit.
delta_index_bytes_max = 8 * 1024 * 1024
# A plan takes 200 bytes a chunk. Random data have 57,000 at most (registry/delta/chunking.py).
delta_blob_chunks_max = 65_536
# Below this a whole download is over before a plan is made.
delta_blob_bytes_min = 1024 * 1024
# What a request costs as bytes: a round trip of 50 ms at 20 Mbit/s.
delta_request_bytes = 128 * 1024
# Requests for one blob: beyond this something else than a new version of the same file is compared.
delta_ranges_max = 1024
# Below this the reading and hashing of seeds costs more than it saves.
delta_saved_percent_min = 10
# Local blobs that are read for a wanted one, and their bytes together as a multiple of its own.
delta_seeds_max = 8
delta_seed_bytes_ratio_max = 4

# --- healing: blobs fetched back for a repair -------------------------------------------------------------------------------
# A repair is waited for, by whoever adds a model meanwhile as well. What has come by then stays for the next one.
heal_blob_s_max = 3600

# --- http: registries over the OCI distribution protocol -----------------------------------------------------------------
http_url_chars_max = 8192
http_header_chars_max = 8192
# All header lines of an answer, or its trailer. docker-registry's have 400 bytes, those of big clouds 2 kB.
http_head_bytes_max = 64 * 1024
# Connections that are kept open to one server: more are made and closed again. Pulls fetch a few blobs side by side.
http_connections_max = 8
# A redirect to a blob store, and one of that store to a node of its own.
http_redirects_max = 5
# Error texts and token answers; what is longer is cut off or refused.
http_error_bytes_max = 16 * 1024
http_token_bytes_max = 64 * 1024
# distribution's token specification: expires_in is 60 when it isn't given.
http_token_s_default = 60
http_token_s_max = 24 * 3600
# Tokens of so many scopes are kept.
http_tokens_max = 64
http_credentials_bytes_max = 256 * 1024
http_read_bytes = 256 * 1024
# One send must get through within the connect time-out: 64 KiB in 10 s are 6.5 kB/s.
http_send_bytes = 64 * 1024
# A whole manifest or list of tags: 4 MB at 64 kB/s. Who sends slower blocks updates, as an attacker would.
http_document_s_max = 80
# Of a blob, within each stall time-out: a byte now and then is a stall too.
http_progress_bytes_min = 1024
# What a registry hashes in a second before it confirms an upload; SD cards read 20 MB/s.
http_commit_bytes_per_s = 20 * 1024 * 1024
# Tries of one request; with full jitter below 1, 2, 4 and 8 s the last one comes after 7.5 s on average.
http_tries_max = 5
http_retry_base_s = 1.0
http_retry_cap_s = 30.0
# A longer Retry-After is handed on to whoever plans; beyond a day it is a mistake.
http_retry_after_s_max = 24 * 3600
http_tags_max = 100_000
http_tags_page_bytes_max = 4 * 1024 * 1024
http_tags_pages_max = 200
# A mirror that failed is asked last for so long.
http_mirror_pause_s = 300

# --- the configuration and the loop -----------------------------------------------------------------------------------
registry_poll_seconds_max = 7 * 86_400
registry_bandwidth_kib_s_max = 999_999
registry_parallel_max = 16
registry_words_max = 1024
# A poll comes up to this share earlier or later, so that boxes that were started together don't poll together.
registry_poll_jitter = 0.1
# A maintenance window opens for all boxes at once: each begins within this time, at its own place.
registry_window_spread_s = 300.0
# After a failure it is tried again so soon, then after twice as long, and so on up to the configured time.
registry_retry_s_min = 30.0

# --- the configuration's further keys, and registry/sync: planner and journal --------------------------------------------
registry_mirrors_max = 16
registry_windows_max = 64
registry_disk_mib_max = 999_999
registry_keep_previous_max = 16
registry_url_chars_max = 512
# How far ahead the next window is looked for: one on Sundays between two and three is left out when clocks go forward.
windows_ahead_days = 15
sync_journal_bytes_max = 4 * 1024 * 1024
# Lines, quarantined digests and counters in the journal: the publisher's lines several times over.
sync_journal_entries_max = 4096
sync_reason_chars_max = 500
# A failed update is tried again after 1, 2, 4 minutes and so on, up to 6 hours: a publisher's mistake lasts for days.
sync_retry_s_base = 60
sync_retry_s_max = 6 * 3600
# What the store needs beside the blobs of a version: manifest, views, the index written twice.
sync_overhead_bytes = 4 * 1024 * 1024
# What an update leaves free on the disk: journals, caches of language models, the operator's way out of a full disk.
sync_free_bytes_min = 128 * 1024 * 1024

# --- bundles: sticks, and the status that they carry back -----------------------------------------------------------------
# PATH_MAX of the kernel.
bundle_path_chars_max = 4096
# The marker of an OCI layout has 30 bytes.
layout_marker_bytes_max = 4096
# A box with 1,000 lines, all that there is to say of each.
return_bytes_max = 512 * 1024
return_entries_max = 1024
return_text_chars_max = 500
# Stored or quarantined versions of one line.
return_versions_max = 32
# Counters: as far as every JSON reader counts exactly.
return_number_max = 2**53 - 1
# Boxes that one `publish fleet` shows, and that fleet.json remembers.
fleet_boxes_max = 100_000
fleet_bytes_max = 32 * 1024 * 1024
