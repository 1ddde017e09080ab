# Makes ggml's attention on processors fast over a KV cache that many sequences share.
#
# All sequences of an engine share one cache, so most of its cells are masked for each of them: other conversations, and
# prefixes kept for later. ggml looks at each of these cells again for each head and layer, and where one sequence runs
# alone, it gives each thread an equal part of the cache, however little of it is the sequence's own. Measured with
# SmolLM2-135M on two cores: 16 sequences beside 6,000 cells that are kept, 208 tokens/s instead of 142.
#
# 1. Masked cells (0xFC00, minus infinity in half precision) are skipped in runs, 64 bytes at a time.
# 2. Threads get equal parts of what is not masked.
#
# Included by build-options.cmake before ggml is configured; stops the build when the source is not as expected.
set(_ops "${CMAKE_CURRENT_SOURCE_DIR}/vendor/llama.cpp/ggml/src/ggml-cpu/ops.cpp")
file(READ "${_ops}" _source)

set(_helpers_at [==[static void ggml_compute_forward_flash_attn_ext_f16_one_chunk(]==])
set(_helpers [==[// --- inference-appliance, packaging/llama/shared-cache-attention.cmake

// The first cell from i on that is not masked; n if there is none.
static inline int64_t fa_next_unmasked(const ggml_fp16_t * mask, int64_t i, int64_t n) {
    const uint64_t masked = UINT64_C(0xFC00FC00FC00FC00);
    for (; i + 32 <= n; i += 32) {
        uint64_t words[8];
        memcpy(words, mask + i, sizeof(words));
        uint64_t other = 0;
        for (int w = 0; w < 8; w++) {
            other |= words[w] ^ masked;
        }
        if (other) {
            break;
        }
    }
    for (; i + 4 <= n; i += 4) {
        uint64_t word;
        memcpy(&word, mask + i, sizeof(word));
        if (word != masked) {
            break;
        }
    }
    while (i < n && mask[i] == 0xFC00) {
        i++;
    }
    return i;
}

// The part of the cells for thread ith of nth, so that each has as many that are not masked.
static inline void fa_split_unmasked(const ggml_fp16_t * mask, int64_t n, int ith, int nth, int64_t * start, int64_t * end) {
    int64_t count = 0;
    for (int64_t i = fa_next_unmasked(mask, 0, n); i < n; i = fa_next_unmasked(mask, i + 1, n)) {
        count++;
    }
    const int64_t first = count*ith/nth;
    const int64_t last  = count*(ith + 1)/nth;
    *start = ith == 0 ? 0 : n;
    *end   = n;
    int64_t seen = 0;
    for (int64_t i = fa_next_unmasked(mask, 0, n); i < n; i = fa_next_unmasked(mask, i + 1, n), seen++) {
        if (ith > 0 && seen == first) {
            *start = i;
        }
        if (ith + 1 < nth && seen == last) {
            *end = i;
            break;
        }
    }
    if (*end < *start) {
        *end = *start;
    }
}

// ---

]==])

# Answers: one row of queries at a time.
set(_row_at [==[            if (mv == -INFINITY) {
                continue;
            }

            float s; // KQ value
]==])
set(_row [==[            if (mv == -INFINITY) {
                ic = fa_next_unmasked(mp, ic + 1, ic_end) - 1;
                continue;
            }

            float s; // KQ value
]==])

# One answer alone: its cells among the threads.
set(_split_at [==[        const int64_t ic_start = ith * chunk_size;
        const int64_t ic_end   = std::min(ic_start + chunk_size, nek1);

        const int64_t partial_stride]==])
set(_split [==[        int64_t ic_start = ith * chunk_size;
        int64_t ic_end   = std::min(ic_start + chunk_size, nek1);
        if (dst->src[3] && nth > 1 && ic_start < nek1) {
            fa_split_unmasked((const ggml_fp16_t *) dst->src[3]->data, nek1, ith, nth, &ic_start, &ic_end);
        }

        const int64_t partial_stride]==])

# Prompts: tiles of many queries.
set(_tile_at [==[            if (mask) {
                bool can_skip = true;
                for (int tq = 0; tq < tile_rows; tq++) {]==])
set(_tile [==[            if (mask) {
                bool all_masked = true;
                for (int tq = 0; tq < tile_rows && all_masked; tq++) {
                    const ggml_fp16_t * mp_row = (const ggml_fp16_t *)((const char *) mask->data + (iq1 + tq)*mask->nb[1] + (iq2%mask->ne[2])*mask->nb[2] + (iq3%mask->ne[3])*mask->nb[3]);
                    all_masked = fa_next_unmasked(mp_row + ic, 0, kv_tile) == kv_tile;
                }
                if (all_masked) {
                    continue;
                }
                bool can_skip = true;
                for (int tq = 0; tq < tile_rows; tq++) {]==])

string(FIND "${_source}" "fa_next_unmasked" _done)
if(_done EQUAL -1)
  foreach(_place IN ITEMS _helpers_at _row_at _split_at _tile_at)
    string(FIND "${_source}" "${${_place}}" _first)
    string(FIND "${_source}" "${${_place}}" _last REVERSE)
    if(_first EQUAL -1 OR NOT _first EQUAL _last)
      message(FATAL_ERROR "${_ops} is not the source that shared-cache-attention.cmake was written for")
    endif()
  endforeach()
  string(REPLACE "${_row_at}" "${_row}" _source "${_source}")
  string(REPLACE "${_split_at}" "${_split}" _source "${_source}")
  string(REPLACE "${_tile_at}" "${_tile}" _source "${_source}")
  string(REPLACE "${_helpers_at}" "${_helpers}${_helpers_at}" _source "${_source}")
  file(WRITE "${_ops}" "${_source}")
endif()
