#include "bench/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <thread>

#include "backend/base/fd.h"
#include "tests/lab/clock.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kPieceMib = 512;
// Neither held nor warmed, for whatever else wants some.
constexpr uint64_t kLeftMib = 512;
constexpr size_t kReporting = 5;  // VIRTIO_BALLOON_F_REPORTING

bool has_free_page_reporting() {
  std::error_code ignored;
  std::filesystem::directory_iterator devices("/sys/bus/virtio/drivers/virtio_balloon", ignored);
  if (ignored) return false;
  return std::any_of(begin(devices), end(devices), [](const auto& device) {
    auto features = read_file(device.path() / "features", 4096);
    return features && features->size() > kReporting && (*features)[kReporting] == '1';
  });
}

Result<uint64_t> meminfo_mib(std::string_view name) {
  VMHOP_ASSIGN(std::string text, read_file("/proc/meminfo", 1 << 16));
  size_t at = text.find(name);
  if (at == std::string::npos) return errorf("/proc/meminfo has no {}", name);
  return std::strtoull(text.c_str() + at + name.size(), nullptr, 10) / 1024;
}

Result<void*> take(uint64_t mib) {
  void* memory = ::mmap(nullptr, mib << 20, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return Error::from_errno("mmap of free memory", errno);
  (void)::madvise(memory, mib << 20, MADV_HUGEPAGE);
  if (::madvise(memory, mib << 20, MADV_POPULATE_WRITE) == 0) return memory;
  int cause = errno;
  ::munmap(memory, mib << 20);
  return Error::from_errno("touching free memory", cause);
}

}  // namespace

HostMemory::HostMemory() : is_given_back_(has_free_page_reporting()) {}

HostMemory::~HostMemory() {
  for (void* piece : held_)
    ::munmap(piece, kPieceMib << 20);
}

Status HostMemory::make_room(uint64_t needed_mib) {
  for (auto give_up = lab::within(20s);; std::this_thread::sleep_for(200ms)) {
    VMHOP_ASSIGN(uint64_t available, meminfo_mib("MemAvailable:"));
    if (available >= needed_mib) break;
    if (!held_.empty()) {
      ::munmap(held_.back(), kPieceMib << 20);
      held_.pop_back();
      continue;
    }
    if (lab::Clock::now() > give_up) {
      return errorf("it takes {} MiB of memory, and this machine has {} MiB available", needed_mib,
                    available);
    }
  }
  while (is_given_back_) {
    VMHOP_ASSIGN(uint64_t free, meminfo_mib("MemFree:"));
    if (free < needed_mib + kLeftMib + kPieceMib) break;
    VMHOP_ASSIGN(void* piece, take(kPieceMib));
    held_.push_back(piece);
  }
  return ok_status();
}

Status HostMemory::warm(uint64_t mib) {
  if (!is_given_back_) return ok_status();
  VMHOP_ASSIGN(uint64_t free, meminfo_mib("MemFree:"));
  mib = std::min(mib, free - std::min(free, kLeftMib));
  if (mib == 0) return ok_status();
  VMHOP_ASSIGN(void* memory, take(mib));
  ::munmap(memory, mib << 20);
  return ok_status();
}

}  // namespace vmhop::bench
