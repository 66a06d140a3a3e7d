// RDMA as a transport of one-sided reads: what cli/ gives to the exporter and to the pager.
#pragma once

#include <memory>

#include "backend/one_sided.h"
#include "rdma/locality.h"

namespace vmhop::rdma {

// From one thread at a time. Nothing is touched before it is used: a host without RDMA loses
// nothing by having one.
std::unique_ptr<OneSidedTransport> make_transport(BindPolicy bind);

}  // namespace vmhop::rdma
