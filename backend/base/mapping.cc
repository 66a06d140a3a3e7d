#include "backend/base/mapping.h"

#include <sys/mman.h>

#include <cerrno>

namespace vmhop {

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<Mapping> Mapping::map_shared(int fd, size_t size, Access access, uint64_t offset) {
  int protection = access == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  void* data =
      ::mmap(nullptr, size, protection, MAP_SHARED | MAP_NORESERVE, fd, static_cast<off_t>(offset));
  if (data == MAP_FAILED) {
    return Error::from_errno(fmt::format("mapping {} bytes of shared memory", size), errno);
  }
  // Whoever writes here writes a page now and then, and would populate 2 MiB with each. Kernels
  // without THP answer EINVAL, which is as good.
  if (access == Access::kReadWrite) ::madvise(data, size, MADV_NOHUGEPAGE);
  ::madvise(data, size, MADV_DONTDUMP);
  return Mapping(static_cast<std::byte*>(data), size);
}

}  // namespace vmhop
