#include "rdma/device_watch.h"

#include <fcntl.h>
#include <poll.h>

#include <array>
#include <cerrno>

namespace vmhop::rdma {
namespace {

enum class About { kDevice, kPort, kQueuePair, kNothing };

About subject_of(ibv_event_type event) {
  switch (event) {
    case IBV_EVENT_DEVICE_FATAL:
      return About::kDevice;
    case IBV_EVENT_PORT_ERR:
      return About::kPort;
    // A queue pair's page source sees its failed reads; this is for the one that is idle.
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_CQ_ERR:
      return About::kQueuePair;
    default:
      return About::kNothing;
  }
}

}  // namespace

Result<std::unique_ptr<DeviceWatch>> DeviceWatch::start(ibv_context* device, uint8_t port) {
  VMHOP_ASSIGN(EventFd told, EventFd::create());
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  VMHOP_TRY(set_nonblocking(device->async_fd));
  std::unique_ptr<DeviceWatch> watch(
      new DeviceWatch(device, port, std::move(told), std::move(stop)));
  watch->thread_ = std::thread([raw = watch.get()] { raw->serve(); });
  return watch;
}

DeviceWatch::~DeviceWatch() {
  stop_.notify();
  thread_.join();
}

std::optional<Error> DeviceWatch::trouble() const {
  std::lock_guard lock(mutex_);
  return trouble_;
}

void DeviceWatch::serve() {
  for (;;) {
    std::array<pollfd, 2> polled{{{stop_.fd(), POLLIN, 0}, {device_->async_fd, POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    if (polled[0].revents != 0) return;
    if (polled[1].revents != 0) take_event();
  }
}

void DeviceWatch::take_event() {
  ibv_async_event event{};
  if (ibv_get_async_event(device_, &event) != 0) return;
  About about = subject_of(event.event_type);
  bool concerns_us =
      about != About::kNothing && (about != About::kPort || event.element.port_num == port_);
  if (concerns_us) {
    std::lock_guard lock(mutex_);
    if (!trouble_) {
      trouble_ = errorf("RDMA device {}, port {}: {}", device_name(device_), port_,
                        ibv_event_type_str(event.event_type));
    }
    trouble_told_.notify();
  }
  // Also those of no interest: destroying what they speak of would wait for it.
  ibv_ack_async_event(&event);
}

}  // namespace vmhop::rdma
