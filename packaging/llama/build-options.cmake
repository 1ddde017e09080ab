# Included by CMake after llama-cpp-python's project() line. Its CMakeLists.txt forces LLAMA_BUILD_COMMON on in the cache;
# a normal variable of the same name wins over the cache (CMake policy CMP0126), so that only the libraries that we
# load are compiled: libllama and libggml, without libllama-common, its tools and its HTTP client. 83 steps instead of
# some 230, 2 minutes instead of 6 on two cores.
set(LLAMA_BUILD_COMMON OFF)
