// Rows 3, 4 and 7 of the goals, by the programs that measure vmhop's parts beside their floors.
#pragma once

#include <vector>

#include "backend/base/result.h"
#include "bench/goals.h"

namespace vmhop::bench {

// `fault`, which lies beside this program.
Result<std::vector<Comparison>> faults_over_tcp();
// `rdma_read`, in the lab of ci/rxe-lab. Its faults are reads of a page: without userfaultfd.
Result<std::vector<Comparison>> reads_by_rdma();

}  // namespace vmhop::bench
