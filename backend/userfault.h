// The kernel's userfaultfd, and the rules of installing pages with it.
#pragma once

#include <cstdint>
#include <span>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

// Calls may come from any thread at the same time: the kernel serialises what must be.
class Userfault {
 public:
  // Opens one for this process's own memory (tests, the toy VMM; QEMU's come from its front).
  // Asks for minor faults on shared memory; the error says what the kernel or the user lacks.
  static Result<Userfault> open();
  // Takes one that a front has opened and registered.
  explicit Userfault(UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }

  Status register_range(uint64_t address, uint64_t length) const;
  // Faults in the range end at once, also those waiting; none are reported any more.
  Status unregister_range(uint64_t address, uint64_t length) const;

  // Reads what faults are there, without waiting; returns how many, each the address of the byte.
  Result<size_t> read_faults(std::span<uint64_t> addresses) const;

  // Maps pages that are in the file (UFFDIO_CONTINUE) and wakes who waits for them. A page that is
  // mapped already is only woken. The error of a page that is not in the file has kind kRefused.
  Status install(uint64_t address, uint64_t length, uint64_t page_size) const;
  // Maps the zero page at one page that is not in the file; one that is, is installed as it is.
  Status install_zero(uint64_t address, uint64_t page_size) const;
  // Lets whoever waits in the range try again.
  Status wake(uint64_t address, uint64_t length) const;

 private:
  UniqueFd fd_;
};

}  // namespace vmhop
