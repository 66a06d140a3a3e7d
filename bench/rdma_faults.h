// Pages by RDMA, on the device at VMHOP_RDMA_ADDRESS.
#pragma once

#include "bench/fault_handlers.h"

namespace vmhop::bench {

// The floor reads by bare verbs.
FaultTransport faults_by_rdma();

}  // namespace vmhop::bench
