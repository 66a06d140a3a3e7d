# Warnings are errors in every target of this tree: link to vmhop_warnings.
add_library(vmhop_warnings INTERFACE)
target_compile_options(vmhop_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wundef -Werror
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual>)
# Where it optimises, GCC 12 sees an overflow in any `"text" + std::string(...)`, and once it may not say so as
# one warning it does as the next (GCC bug 105329, mended in 13).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(vmhop_warnings INTERFACE -Wno-stringop-overflow -Wno-array-bounds -Wno-restrict)
endif()
