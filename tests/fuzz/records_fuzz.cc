// The records on disk: what can be read is written again to the same meaning.
#include <fcntl.h>
#include <unistd.h>

#include "backend/commit_record.h"
#include "cli/vm_record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/temporary_directory.h"

using namespace vmhop;
using fuzz::must;
using fuzz::require;

namespace {

void write(const std::string& path, std::span<const std::byte> bytes) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  require(file.valid() && write_all(file.get(), bytes).ok(), "a file");
}

void read_commit(const std::string& directory) {
  auto record = read_commit_record(directory);
  if (!record) return;
  require(record->has_value(), "a damaged record is never none");
  must(write_commit_record(directory, **record));
  require(must(read_commit_record(directory)) == *record, "a commit comes back as it was written");
}

void read_vm(const std::string& directory) {
  auto record = read_vm_record(directory);
  if (!record) return;
  must(write_vm_record(directory, *record));
  auto again = read_vm_record(directory);
  require(again && again->vm == record->vm && again->role == record->role &&
              again->argv == record->argv && again->regions == record->regions &&
              again->peer == record->peer && again->qemu.pid == record->qemu.pid &&
              again->qemu.start_time == record->qemu.start_time,
          "a VM's record comes back as it was written");
  // A signal to 0 or less goes to a group, or to everybody.
  for (const ProcessIdentity& process :
       {again->supervisor, again->qemu, again->exporter, again->pager})
    require(process.pid >= 0, "a process has a number, or none");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::TemporaryDirectory directory;
  auto bytes = std::as_bytes(std::span(data, size));
  write(directory.path() + "/commit", bytes);
  write(directory.path() + "/vm.json", bytes);
  read_commit(directory.path());
  read_vm(directory.path());
  return 0;
}
