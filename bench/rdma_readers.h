// Two ways to read the same memory, behind one seam: whatever a benchmark does with bare verbs it
// does with the page source too.
#pragma once

#include <memory>

#include "bench/rdma_bench_pair.h"

namespace vmhop::bench {

// Reads of pages that a key covers, into their own places. One thread.
class Reader {
 public:
  virtual ~Reader() = default;
  virtual Status post(uint64_t offset, uint64_t length) = 0;
  // Bytes that arrived, perhaps none.
  virtual Result<uint64_t> poll() = 0;
  // Sleeps until something may have arrived.
  virtual Status sleep() = 0;
};

// ibv_post_send and ibv_poll_cq, and nothing else. What is posted at once is one work request.
Result<std::unique_ptr<Reader>> bare_reader(BenchPair& pair, size_t connection);
Result<std::unique_ptr<Reader>> source_reader(BenchPair& pair, size_t connection);

}  // namespace vmhop::bench
