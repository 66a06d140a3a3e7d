// Calls of libibverbs and librdmacm that fail when a test says so: the linker puts these wrappers
// in front of them (tests/rdma/CMakeLists.txt lists which).
#pragma once

#include <infiniband/verbs.h>

#include <optional>
#include <string>

namespace vmhop::testing_support {

// While it exists, calls of one function fail with `errno_value`.
class FailingCall {
 public:
  enum class By {
    kThisThread,    // the end under test runs in the test's own thread ...
    kOtherThreads,  // ... or it is the source's listener
  };
  FailingCall(std::string function, int errno_value, By by = By::kThisThread);
  ~FailingCall();
  FailingCall(const FailingCall&) = delete;
  FailingCall& operator=(const FailingCall&) = delete;

  // Whether it was called at all.
  bool happened() const;
};

// While it exists, a connection that ends looks as if its device were being removed: rxe's kernel
// waits, when a device is removed, for the very contexts that librdmacm keeps open.
class RemovedDevice {
 public:
  RemovedDevice();
  ~RemovedDevice();
  RemovedDevice(const RemovedDevice&) = delete;
  RemovedDevice& operator=(const RemovedDevice&) = delete;
};

// The flags of the latest registration.
int last_registration_flags();
// The queue pair that was made last by this thread.
ibv_qp* last_queue_pair();

// Makes a device say that it can page on demand; registrations there are plain ones nevertheless.
void pretend_on_demand_paging(ibv_context* device);

}  // namespace vmhop::testing_support
