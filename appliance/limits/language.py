"""Bounds of language models and of what is asked of them."""

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
