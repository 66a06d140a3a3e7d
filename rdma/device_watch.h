// A device's asynchronous events: a port that went down, a queue pair or a device that failed.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "rdma/verbs.h"

namespace vmhop::rdma {

// One thread, for one context: whoever reads its events first has them. Trouble stays.
class DeviceWatch {
 public:
  static Result<std::unique_ptr<DeviceWatch>> start(ibv_context* device, uint8_t port);
  ~DeviceWatch();

  // Readable from the first trouble on; never drained.
  int fd() const { return trouble_told_.fd(); }
  std::optional<Error> trouble() const;

 private:
  DeviceWatch(ibv_context* device, uint8_t port, EventFd trouble_told, EventFd stop)
      : device_(device),
        port_(port),
        trouble_told_(std::move(trouble_told)),
        stop_(std::move(stop)) {}
  void serve();
  void take_event();

  ibv_context* device_;
  uint8_t port_;
  EventFd trouble_told_;
  EventFd stop_;
  mutable std::mutex mutex_;  // guards trouble_
  std::optional<Error> trouble_;
  std::thread thread_;
};

}  // namespace vmhop::rdma
