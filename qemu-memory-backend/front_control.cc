#include "qemu-memory-backend/front_control.h"

#include <sys/stat.h>

#include <cerrno>
#include <thread>

namespace vmhop {

Result<FrontControl> FrontControl::create() {
  VMHOP_ASSIGN(UniqueFd fd, create_memfd(kFrontControlName, sizeof(vmhop_front_control)));
  return attach(std::move(fd));
}

Result<FrontControl> FrontControl::attach(UniqueFd fd) {
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return Error::from_errno("the front's control page", errno);
  if (info.st_size != static_cast<off_t>(sizeof(vmhop_front_control))) {
    return errorf("the front's control page has {} bytes instead of {}", info.st_size,
                  sizeof(vmhop_front_control));
  }
  VMHOP_ASSIGN(Mapping mapping,
               Mapping::map_shared(fd.get(), sizeof(vmhop_front_control), Access::kReadWrite));
  return FrontControl(std::move(fd), std::move(mapping));
}

Status FrontControl::block_discards(std::chrono::milliseconds timeout) {
  // A punch takes microseconds to a few milliseconds and hardly ever runs now: not worth a futex
  // that would have to be woken from inside QEMU.
  constexpr auto kPollInterval = std::chrono::microseconds(50);
  auto deadline = std::chrono::steady_clock::now() + timeout;
  vmhop_front_block(page());
  while (vmhop_front_punches_in_progress(page()) != 0) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return Error(fmt::format("QEMU is still discarding RAM (balloon, free-page reporting or "
                               "virtio-mem) after {} ms; try again",
                               timeout.count()),
                   ErrorKind::kTimedOut);
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  return ok_status();
}

void FrontControl::allow_discards() {
  vmhop_front_unblock(page());
}

bool FrontControl::discards_blocked() const {
  return vmhop_front_is_blocked(page()) != 0;
}

uint64_t FrontControl::punches() const {
  return __atomic_load_n(&page()->punches_done, __ATOMIC_SEQ_CST);
}

uint64_t FrontControl::refused() const {
  return __atomic_load_n(&page()->punches_refused, __ATOMIC_RELAXED);
}

}  // namespace vmhop
