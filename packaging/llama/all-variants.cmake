# Native code for every x86-64 processor, chosen when an engine starts. Included by CMake instead of build-options.cmake
# where the result goes into a package; needs -DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON.
#
# ggml then compiles its processor backend once a variant, as modules beside libggml. Each says how well it suits this
# processor, and the best is loaded (appliance/engine/llama/backend.py). All else is for the oldest x86-64.
include("${CMAKE_CURRENT_LIST_DIR}/build-options.cmake")

# Of ggml's fourteen, seven: a variant costs a minute of building and 1 MB. Left out is what another one serves as well:
# sse42 and ivybridge, piledriver (rare; they get x64 and sandybridge), cannonlake, icelake, cooperlake and zen4 (they get
# cascadelake: int8 dot products are what quantised models need; VBMI and BF16 are not used by ggml's kernels for them).
set(_cpu "${CMAKE_CURRENT_SOURCE_DIR}/vendor/llama.cpp/ggml/src/CMakeLists.txt")
file(READ "${_cpu}" _source)
foreach(_variant IN ITEMS sse42 ivybridge piledriver cannonlake icelake cooperlake zen4)
  if(NOT _source MATCHES "ggml_add_cpu_backend_variant\\(${_variant} ")
    if(NOT _source MATCHES "# left out: ${_variant} ")
      message(FATAL_ERROR "${_cpu} has no variant ${_variant}: all-variants.cmake was written for another version")
    endif()
  endif()
  string(REPLACE "ggml_add_cpu_backend_variant(${_variant} " "# left out: ${_variant} (" _source "${_source}")
endforeach()
file(WRITE "${_cpu}" "${_source}")

# Modules go where ggml would install programs; in the wheel their place is beside libggml.
set(CMAKE_INSTALL_BINDIR "llama_cpp/lib" CACHE PATH "" FORCE)
set(CMAKE_INSTALL_RPATH "$ORIGIN")

# The same bytes wherever the source lies.
add_compile_options("-ffile-prefix-map=${CMAKE_CURRENT_SOURCE_DIR}=." "-ffile-prefix-map=${CMAKE_CURRENT_BINARY_DIR}=build")
