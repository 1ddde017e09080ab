# Included by CMake after llama-cpp-python's project() line. Its CMakeLists.txt forces LLAMA_BUILD_COMMON on in the cache;
# a normal variable of the same name wins over the cache (CMake policy CMP0126), so that only the libraries that we
# load are compiled: libllama and libggml, without libllama-common, its tools and its HTTP client. 83 steps instead of
# some 230, 2 minutes instead of 6 on two cores.
set(LLAMA_BUILD_COMMON OFF)
# ggml's own threads instead of OpenMP's. OpenMP's barriers, some 500 a token, fall asleep when another process has a core,
# and waking up takes a time slice: measured on two cores with other work coming and going, 4 tokens/s instead of 129.
# Alone both are equally fast.
set(GGML_OPENMP OFF CACHE BOOL "" FORCE)
include("${CMAKE_CURRENT_LIST_DIR}/shared-cache-attention.cmake")

# Without AVX512-FP16. With it ggml handles half precision in steps of 128 numbers, so that attention heads of 64 (most
# small models) fall to its scalar loop. Measured on a Xeon that has it, 16 sequences of 130 to 260 tokens: 187 tokens/s
# without, 131 with it.
include(CheckCCompilerFlag)
check_c_compiler_flag(-mno-avx512fp16 INFERENCE_APPLIANCE_HAS_NO_AVX512FP16)
if(INFERENCE_APPLIANCE_HAS_NO_AVX512FP16 AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_compile_options(-mno-avx512fp16)
endif()
