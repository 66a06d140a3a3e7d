// Owners of what libibverbs hands out, and the errors of its calls.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "backend/base/result.h"

namespace vmhop::rdma {

// "ibv_reg_mr on rxe0: Cannot allocate memory"
Error verbs_error(const char* call, ibv_context* device, int errno_value);
std::string device_name(ibv_context* device);

// Shared by all that lives in it. The context is librdmacm's and lives as long as the process.
using ProtectionDomain = std::shared_ptr<ibv_pd>;
Result<ProtectionDomain> allocate_domain(ibv_context* device);

// Registered, pinned (unless on demand) memory. Whoever destroys it has seen to it that no queue
// pair uses it any more.
class MemoryRegion {
 public:
  MemoryRegion() = default;
  // `access` as ibv_reg_mr's. The error of too low a limit of locked memory says so.
  static Result<MemoryRegion> create(const ProtectionDomain& domain, void* address, size_t length,
                                     int access);

  uint32_t local_key() const { return region_->lkey; }
  uint32_t remote_key() const { return region_->rkey; }
  bool valid() const { return region_ != nullptr; }

 private:
  struct Deregister {
    void operator()(ibv_mr* region) const { (void)ibv_dereg_mr(region); }
  };
  MemoryRegion(ProtectionDomain domain, ibv_mr* region)
      : domain_(std::move(domain)), region_(region) {}

  ProtectionDomain domain_;
  std::unique_ptr<ibv_mr, Deregister> region_;
};

// A completion queue with a channel of its own to sleep on. One thread uses it.
class CompletionQueue {
 public:
  CompletionQueue() = default;
  static Result<CompletionQueue> create(ibv_context* device, int entries);

  ibv_cq* get() const { return queue_.get(); }
  // Readable after arm(), when something completes.
  int fd() const { return channel_->fd; }

  // Takes completions, without a system call where the device needs none.
  Result<size_t> poll(std::span<ibv_wc> completions) const;
  // From now on fd() tells of the next completion. What completed before is told by poll() alone:
  // call it once more before sleeping.
  Status arm();
  // Of completions that were taken: fd() is not readable for them any more. For who waits for
  // something else.
  Status forget_event();

 private:
  struct DestroyChannel {
    void operator()(ibv_comp_channel* channel) const { (void)ibv_destroy_comp_channel(channel); }
  };
  struct DestroyQueue {
    void operator()(ibv_cq* queue) const { (void)ibv_destroy_cq(queue); }
  };

  ibv_context* device_ = nullptr;
  std::unique_ptr<ibv_comp_channel, DestroyChannel> channel_;
  std::unique_ptr<ibv_cq, DestroyQueue> queue_;
  bool armed_ = false;
};

}  // namespace vmhop::rdma
