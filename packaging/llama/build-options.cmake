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
