// Pages over a TCP connection on the loopback.
#pragma once

#include "bench/fault_handlers.h"

namespace vmhop::bench {

// Both ends of the floor wait alike.
FaultTransport faults_by_tcp();

}  // namespace vmhop::bench
