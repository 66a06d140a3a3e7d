# Libraries whose sources are compiled several at once: what a source takes is mostly its headers (json, fmt),
# so that this halves the time. Names in anonymous namespaces have to differ within a library, then.
# VMHOP_UNITY=OFF compiles each by itself, as for tools that look at single files.
option(VMHOP_UNITY "Compile several sources of a library at once" ON)

function(vmhop_unity)
  set_target_properties(${ARGN} PROPERTIES UNITY_BUILD ${VMHOP_UNITY} UNITY_BUILD_BATCH_SIZE 8)
endfunction()
