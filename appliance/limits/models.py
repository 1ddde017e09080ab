"""Bounds of model folders, the store, and engines that run tensors."""

# --- model folders and the store -------------------------------------------------------------------------------------
model_toml_bytes_max = 1024 * 1024
files_per_model_max = 1024
# Folders in folders in a model folder.
model_path_depth_max = 8
# A manifest names at most files_per_model_max files; what is larger is no manifest of ours and is not parsed.
manifest_bytes_max = 4 * 1024 * 1024
golden_tests_max = 64
model_bytes_max = 256 * 1024 * 1024 * 1024
# Problems, or things to remove, that one answer of the store names: a screen is full long before; all are counted.
store_report_entries_max = 1000

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

# --- ONNX models -----------------------------------------------------------------------------------------------------
# Rows computed together when model.toml doesn't say: beyond, one more row costs what it costs alone (forest: 66 us for 64
# rows), and everybody in the batch waits for all of it.
batch_rows_default_max = 64
# A model of the latency class that waited longer for company would not be one.
batch_wait_us_max = 1_000_000
batch_rows_preferred_max = 16
# The tensors of a batch are copied into one place: beyond this the copy costs more than calls in company save.
batch_bytes_max = 64 * 1024 * 1024
# An input without a batch axis is compared byte by byte to find calls that may go together; one that is larger is as good
# as unique.
batch_shared_bytes_max = 4096
# Waiting calls that are looked through for company, before each run: 0.1 ms.
batch_look_ahead_max = 1024
# Runs in a row, while calls of several priorities wait, until the next one begins with the oldest call of all.
overtaken_runs_max = 16
# A model whose single run takes longer is not tried out with batches at load: that would take a minute.
batch_trial_run_ms_max = 2_000
# What the trial's measurement of one row against several may take.
batch_trial_timing_ms_max = 1_000
# Runs are counted by their number of rows up to here, beyond by the next power of two: clients choose that number.
batch_sizes_exact_max = 64
# Files of one chain.
chain_files_max = 8
# Sequences of one model, and how long an idle one may be kept.
tensor_sequences_max = 65_536
sequence_idle_seconds_max = 86_400
sequence_states_max = 16
# States of all sequences of one model together: 65,536 of 16 KiB, or some thousands of a small transformer's.
sequence_states_bytes_max = 1024 * 1024 * 1024
# The file with the first state of a row.
sequence_initial_bytes_max = 64 * 1024 * 1024
# A string that names a sequence.
sequence_id_chars_max = 256
# Engine processes of one version.
instances_max = 64
output_unit_chars_max = 64
output_description_chars_max = 1_000
# Labels that ModelConfig shows: clients take answers of 4 MiB unless told otherwise, and it has others to carry.
shown_labels_bytes_max = 256 * 1024
# How long operators may be measured, and what the measurement may have.
profile_seconds_max = 300
profile_bytes_max = 256 * 1024 * 1024
# What a profile may keep in memory until it is written: 2 kB for each operator that ran.
profile_memory_bytes_max = 256 * 1024 * 1024
# An optimised graph that is kept on disk: beyond, a load is reading weights, which it doesn't shorten (engine/onnx/README.md).
graph_cache_bytes_max = 64 * 1024 * 1024

# --- publishing classic models ---------------------------------------------------------------------------------------
# A table is read into memory, some ten times its size while a CSV is read.
publish_table_bytes_max = 2 * 1024 * 1024 * 1024
publish_columns_max = 16_384
# Nodes of all trees: conversion takes 8 us and 0.8 kB for each (measured), so this is 80 seconds and 8 GB.
publish_tree_nodes_max = 10_000_000
# protobuf writes no message beyond 2 GiB; what comes near it takes ten times as much memory to load.
publish_onnx_bytes_max = 1024 * 1024 * 1024
# statistics.json: some 1 kB a column and 60 bytes a category.
statistics_columns_max = 4096
statistics_categories_max = 64
upload_chunk_bytes = 1024 * 1024
