# -DVMHOP_SANITIZE=address (with undefined behaviour) or thread; everything in the build gets it,
# except the preload library, which lives inside somebody else's process.
set(VMHOP_SANITIZE "" CACHE STRING "address, thread or empty")
option(VMHOP_FUZZ "Build the fuzzers and nothing else: clang's libFuzzer, ASan and UBSan" OFF)
if(VMHOP_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang" OR VMHOP_SANITIZE)
    message(FATAL_ERROR "VMHOP_FUZZ needs clang and brings its own sanitizers: cmake --preset fuzz")
  endif()
  # libFuzzer is told of branches and comparisons; its main comes with each fuzzer.
  set(VMHOP_SANITIZE_FLAGS -fsanitize=fuzzer-no-link,address,undefined
      -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
elseif(VMHOP_SANITIZE STREQUAL "address")
  # (GCC's manual on -fsanitize: it makes for false warnings, -Wmaybe-uninitialized above all.)
  set(VMHOP_SANITIZE_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=undefined
      -Wno-maybe-uninitialized
      -fno-omit-frame-pointer)
elseif(VMHOP_SANITIZE STREQUAL "thread")
  # TSan does not model fences, and the tree uses none; -Wno-tsan would hide a first one.
  set(VMHOP_SANITIZE_FLAGS -fsanitize=thread -fno-omit-frame-pointer)
elseif(NOT VMHOP_SANITIZE STREQUAL "")
  message(FATAL_ERROR "VMHOP_SANITIZE is '${VMHOP_SANITIZE}'; use address, thread or nothing")
endif()
if(VMHOP_SANITIZE_FLAGS)
  target_compile_options(vmhop_warnings INTERFACE ${VMHOP_SANITIZE_FLAGS})
  target_link_options(vmhop_warnings INTERFACE ${VMHOP_SANITIZE_FLAGS})
endif()
