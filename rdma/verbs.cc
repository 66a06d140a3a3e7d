#include "rdma/verbs.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <span>

#include "backend/base/fd.h"

namespace vmhop::rdma {
namespace {

std::string locked_memory_advice() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
  return fmt::format(
      "; this process may lock {} MiB: raise RLIMIT_MEMLOCK (ulimit -l unlimited, or LimitMEMLOCK= "
      "of its service)",
      limit.rlim_cur >> 20);
}

}  // namespace

std::string device_name(ibv_context* device) {
  return device == nullptr ? "no device" : ibv_get_device_name(device->device);
}

Error verbs_error(const char* call, ibv_context* device, int errno_value) {
  return Error::from_errno(fmt::format("{} on {}", call, device_name(device)), errno_value);
}

Result<ProtectionDomain> allocate_domain(ibv_context* device) {
  ibv_pd* domain = ibv_alloc_pd(device);
  if (domain == nullptr) return verbs_error("ibv_alloc_pd", device, errno);
  return ProtectionDomain(domain, [](ibv_pd* last) { (void)ibv_dealloc_pd(last); });
}

Result<MemoryRegion> MemoryRegion::create(const ProtectionDomain& domain, void* address,
                                          size_t length, int access) {
  // ibv_reg_mr is a macro that chooses by what it knows of the flags when compiling.
  ibv_mr* region = ibv_reg_mr(domain.get(), address, length, access);
  if (region != nullptr) return MemoryRegion(domain, region);
  int cause = errno;
  Error error = verbs_error("ibv_reg_mr", domain->context, cause);
  bool limited = cause == ENOMEM || cause == EPERM || cause == EAGAIN;
  return errorf("{} ({} KiB){}", error.message(), length >> 10,
                limited ? locked_memory_advice() : "");
}

Result<CompletionQueue> CompletionQueue::create(ibv_context* device, int entries) {
  CompletionQueue self;
  self.device_ = device;
  self.channel_.reset(ibv_create_comp_channel(device));
  if (!self.channel_) return verbs_error("ibv_create_comp_channel", device, errno);
  VMHOP_TRY(set_nonblocking(self.channel_->fd));
  self.queue_.reset(ibv_create_cq(device, entries, nullptr, self.channel_.get(), 0));
  if (!self.queue_) return verbs_error("ibv_create_cq", device, errno);
  return self;
}

Result<size_t> CompletionQueue::poll(std::span<ibv_wc> completions) const {
  int count = ibv_poll_cq(queue_.get(), static_cast<int>(completions.size()), completions.data());
  if (count < 0) return verbs_error("ibv_poll_cq", device_, errno);
  return static_cast<size_t>(count);
}

Status CompletionQueue::forget_event() {
  if (!armed_) return ok_status();
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  if (ibv_get_cq_event(channel_.get(), &queue, &context) != 0) {
    if (errno == EAGAIN || errno == EINTR) return ok_status();  // nothing came: still armed
    return verbs_error("ibv_get_cq_event", device_, errno);
  }
  ibv_ack_cq_events(queue, 1);
  armed_ = false;
  return ok_status();
}

Status CompletionQueue::arm() {
  VMHOP_TRY(forget_event());
  if (armed_) return ok_status();
  if (int cause = ibv_req_notify_cq(queue_.get(), 0); cause != 0) {
    return verbs_error("ibv_req_notify_cq", device_, cause);
  }
  armed_ = true;
  return ok_status();
}

}  // namespace vmhop::rdma
