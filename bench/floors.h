// Rows 3, 4 and 7 of the goals, by the programs that measure vmhop's parts beside their floors.
#pragma once

#include <vector>

#include "backend/base/result.h"
#include "bench/goals.h"

namespace vmhop::bench {

// `fault`, which lies beside this program: here by TCP, and in the lab of ci/rxe-lab by RDMA.
Result<std::vector<Comparison>> faults_by_tcp();
Result<std::vector<Comparison>> faults_by_rdma();
// `rdma_read` in that lab. Its faults are reads of a page, without userfaultfd.
Result<std::vector<Comparison>> reads_by_rdma();

}  // namespace vmhop::bench
