#include "tests/rdma/failing_calls.h"

#include <rdma/rdma_cma.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <thread>

namespace vmhop::testing_support {
namespace {

struct Script {
  std::string function;
  int errno_value = 0;
  FailingCall::By by = FailingCall::By::kThisThread;
  std::thread::id thread;
  bool happened = false;
};
std::mutex script_mutex;  // guards script
std::optional<Script> script;
std::atomic<int> registration_flags{0};
thread_local ibv_qp* queue_pair = nullptr;
std::atomic<bool> strips_on_demand{false};
std::atomic<bool> device_removed{false};
int (*real_query)(ibv_context*, const ibv_query_device_ex_input*, ibv_device_attr_ex*, size_t);

bool fails(const char* function) {
  std::lock_guard lock(script_mutex);
  if (!script || script->function != function) return false;
  bool same_thread = script->thread == std::this_thread::get_id();
  if (same_thread != (script->by == FailingCall::By::kThisThread)) return false;
  script->happened = true;
  errno = script->errno_value;
  return true;
}

int query_with_on_demand(ibv_context* device, const ibv_query_device_ex_input* input,
                         ibv_device_attr_ex* attributes, size_t size) {
  int done = real_query(device, input, attributes, size);
  attributes->odp_caps.general_caps |= IBV_ODP_SUPPORT;
  attributes->odp_caps.per_transport_caps.rc_odp_caps |= IBV_ODP_SUPPORT_READ;
  return done;
}

}  // namespace

FailingCall::FailingCall(std::string function, int errno_value, By by) {
  std::lock_guard lock(script_mutex);
  script = Script{std::move(function), errno_value, by, std::this_thread::get_id(), false};
}
FailingCall::~FailingCall() {
  std::lock_guard lock(script_mutex);
  script.reset();
}
bool FailingCall::happened() const {
  std::lock_guard lock(script_mutex);
  return script && script->happened;
}

RemovedDevice::RemovedDevice() {
  device_removed = true;
}
RemovedDevice::~RemovedDevice() {
  device_removed = false;
}

int last_registration_flags() {
  return registration_flags;
}
ibv_qp* last_queue_pair() {
  return queue_pair;
}

void pretend_on_demand_paging(ibv_context* device) {
  verbs_context* extended = verbs_get_ctx(device);
  if (extended->query_device_ex == query_with_on_demand) return;
  real_query = extended->query_device_ex;
  extended->query_device_ex = query_with_on_demand;
  strips_on_demand = true;
}

}  // namespace vmhop::testing_support

using vmhop::testing_support::fails;

// The linker's names for a wrapper and for what it wraps.
#define WRAP(result, failure, name, parameters, arguments) \
  result __real_##name parameters;                         \
  result __wrap_##name parameters;                         \
  result __wrap_##name parameters {                        \
    if (fails(#name)) return failure;                      \
    return __real_##name arguments;                        \
  }

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
extern "C" {
WRAP(rdma_event_channel*, nullptr, rdma_create_event_channel, (void), ())
WRAP(int, -1, rdma_create_id,
     (rdma_event_channel * channel, rdma_cm_id** id, void* context, rdma_port_space space),
     (channel, id, context, space))
WRAP(int, -1, rdma_bind_addr, (rdma_cm_id * id, sockaddr* address), (id, address))
WRAP(int, -1, rdma_listen, (rdma_cm_id * id, int backlog), (id, backlog))
WRAP(int, -1, rdma_resolve_addr,
     (rdma_cm_id * id, sockaddr* source, sockaddr* destination, int timeout),
     (id, source, destination, timeout))
WRAP(int, -1, rdma_resolve_route, (rdma_cm_id * id, int timeout), (id, timeout))
WRAP(int, -1, rdma_connect, (rdma_cm_id * id, rdma_conn_param* parameters), (id, parameters))
WRAP(int, -1, rdma_accept, (rdma_cm_id * id, rdma_conn_param* parameters), (id, parameters))
WRAP(ibv_pd*, nullptr, ibv_alloc_pd, (ibv_context * device), (device))
WRAP(ibv_comp_channel*, nullptr, ibv_create_comp_channel, (ibv_context * device), (device))
WRAP(ibv_cq*, nullptr, ibv_create_cq,
     (ibv_context * device, int entries, void* context, ibv_comp_channel* channel, int vector),
     (device, entries, context, channel, vector))

int __real_rdma_get_cm_event(rdma_event_channel* channel, rdma_cm_event** event);
int __wrap_rdma_get_cm_event(rdma_event_channel* channel, rdma_cm_event** event);
int __wrap_rdma_get_cm_event(rdma_event_channel* channel, rdma_cm_event** event) {
  int done = __real_rdma_get_cm_event(channel, event);
  if (done == 0 && (*event)->event == RDMA_CM_EVENT_DISCONNECTED &&
      vmhop::testing_support::device_removed) {
    (*event)->event = RDMA_CM_EVENT_DEVICE_REMOVAL;
  }
  return done;
}

int __real_rdma_create_qp(rdma_cm_id* id, ibv_pd* domain, ibv_qp_init_attr* attributes);
int __wrap_rdma_create_qp(rdma_cm_id* id, ibv_pd* domain, ibv_qp_init_attr* attributes);
int __wrap_rdma_create_qp(rdma_cm_id* id, ibv_pd* domain, ibv_qp_init_attr* attributes) {
  if (fails("rdma_create_qp")) return -1;
  int done = __real_rdma_create_qp(id, domain, attributes);
  if (done == 0) vmhop::testing_support::queue_pair = id->qp;
  return done;
}

ibv_mr* __real_ibv_reg_mr_iova2(ibv_pd* domain, void* address, size_t length, uint64_t iova,
                                unsigned int access);
ibv_mr* __wrap_ibv_reg_mr_iova2(ibv_pd* domain, void* address, size_t length, uint64_t iova,
                                unsigned int access);
ibv_mr* __wrap_ibv_reg_mr_iova2(ibv_pd* domain, void* address, size_t length, uint64_t iova,
                                unsigned int access) {
  if (fails("ibv_reg_mr")) return nullptr;
  vmhop::testing_support::registration_flags = static_cast<int>(access);
  if (vmhop::testing_support::strips_on_demand) access &= ~unsigned{IBV_ACCESS_ON_DEMAND};
  return __real_ibv_reg_mr_iova2(domain, address, length, iova, access);
}
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
