#include "tests/lab/shared_disk.h"

#include "tests/lab/process.h"

namespace vmhop::lab {

Result<SharedDisk> SharedDisk::create(const std::string& directory, uint64_t mib) {
  std::string path = directory + "/disk.img";
  auto made = run_tool(directory, {"mkfs.ext4", "-q", "-F", path, fmt::format("{}M", mib)});
  if (!made) return made.error();
  return SharedDisk(directory, path);
}

Status SharedDisk::check_filesystem() const {
  auto checked = run_tool(directory_, {"e2fsck", "-f", "-n", path_});
  return checked ? ok_status() : Status(checked.error().with("the disk's file system is damaged"));
}

Status SharedDisk::check_records(const std::string& witness, uint64_t synced) const {
  std::string records = directory_ + "/records";
  auto dumped = run_tool(directory_, {"debugfs", "-R", "dump /records " + records, path_});
  if (!dumped) return dumped.error();
  auto checked =
      run_tool(directory_, {witness, "--check-records", records, fmt::to_string(synced)});
  return checked ? ok_status() : Status(checked.error().with("what was synced is not there"));
}

}  // namespace vmhop::lab
