#include "backend/ram_region.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace vmhop {

Result<RamRegion> RamRegion::map(RegionInfo info, UniqueFd memfd, Access access) {
  if (info.page_size == 0 || info.size == 0 || info.size % info.page_size != 0) {
    return errorf("region {}: {} bytes are not a number of {}-byte pages", info.id, info.size,
                  info.page_size);
  }
  struct stat file {};
  if (::fstat(memfd.get(), &file) != 0) {
    return Error::from_errno("looking at the memory of region " + info.id, errno);
  }
  if (static_cast<uint64_t>(file.st_size) != info.size) {
    return errorf("region {}: its memory file has {} bytes, not {}", info.id, file.st_size,
                  info.size);
  }
  VMHOP_ASSIGN(Mapping alias, Mapping::map_shared(memfd.get(), info.size, access));
  return RamRegion(std::move(info), std::move(memfd), std::move(alias));
}

Result<ExtentList> RamRegion::populated_extents() const {
  ExtentList extents;
  auto size = static_cast<off_t>(info_.size);
  off_t position = 0;
  while (position < size) {
    off_t data = ::lseek(memfd_.get(), position, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0) return Error::from_errno("SEEK_DATA in region " + info_.id, errno);
    off_t hole = ::lseek(memfd_.get(), data, SEEK_HOLE);
    if (hole < 0) return Error::from_errno("SEEK_HOLE in region " + info_.id, errno);
    // A page may be populated or punched between the two calls: they then meet, or touch.
    if (hole > data) {
      auto offset = static_cast<uint64_t>(data);
      auto length = static_cast<uint64_t>(hole - data);
      if (!extents.empty() && extents.back().end() == offset) {
        extents.back().length += length;
      } else {
        extents.push_back({offset, length});
      }
    }
    position = hole > data ? hole : data + static_cast<off_t>(info_.page_size);
  }
  return extents;
}

Result<bool> RamRegion::is_populated(uint64_t offset) const {
  off_t data = ::lseek(memfd_.get(), static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0 && errno == ENXIO) return false;
  if (data < 0) return Error::from_errno("SEEK_DATA in region " + info_.id, errno);
  return data == static_cast<off_t>(offset);
}

}  // namespace vmhop
