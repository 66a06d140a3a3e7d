# The Debian package, by CPack.
set(CPACK_PACKAGE_NAME vmhop)
set(CPACK_PACKAGE_VENDOR vmhop)
set(CPACK_PACKAGE_CONTACT "vmhop's maintainers <maintainers@vmhop.example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "relocates running virtual machines in milliseconds")
set(CPACK_PACKAGE_DESCRIPTION
"A running QEMU virtual machine moves to another host in milliseconds: it
runs on there at once, with none of its memory, and its pages follow on
demand and in the background, by TLS over TCP or by one-sided RDMA reads.
Guest, QEMU and kernel stay as they are.")
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "qemu-system-x86")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "ibverbs-providers, rdma-core, bash-completion")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/conffiles)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

# What only a Debian package has: /etc/vmhop, a copyright file, compressed documents.
set(VMHOP_DEBIAN_SOURCES ${CMAKE_CURRENT_LIST_DIR})
configure_file(${CMAKE_CURRENT_LIST_DIR}/finish.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/finish.cmake @ONLY)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_BINARY_DIR}/finish.cmake)
include(CPack)
