# Warnings are errors in every target of this tree: link to vmhop_warnings.
add_library(vmhop_warnings INTERFACE)
target_compile_options(vmhop_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wundef -Werror
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual>)
