#include "bench/rdma_bench_pair.h"

#include <cstdlib>
#include <cstring>

namespace vmhop::bench {
namespace {

constexpr std::chrono::seconds kTimeout{10};
constexpr uint32_t kPageSize = 4096;

}  // namespace

Result<std::unique_ptr<BenchPair>> BenchPair::create(uint64_t bytes, size_t connections) {
  const char* address = std::getenv("VMHOP_RDMA_ADDRESS");
  if (address == nullptr) {
    return Error("VMHOP_RDMA_ADDRESS names no RDMA device: run this by ci/rxe-lab --");
  }
  std::unique_ptr<BenchPair> self(new BenchPair(bytes));
  RegionInfo info{"ram", bytes + bytes / 4, kPageSize};
  VMHOP_ASSIGN(UniqueFd memory, create_memfd("source", info.size));
  {
    VMHOP_ASSIGN(UniqueFd again, memory.duplicate());
    VMHOP_ASSIGN(RamRegion writable, RamRegion::map(info, std::move(again), Access::kReadWrite));
    for (uint64_t page = 0; page < bytes / kPageSize; ++page) {
      if (page % 100 != 99) std::memset(writable.alias() + page * kPageSize, 0x5a, kPageSize);
    }
  }
  VMHOP_ASSIGN(RamRegion source, RamRegion::map(info, std::move(memory), Access::kRead));
  self->sources_.push_back(std::move(source));
  VMHOP_ASSIGN(UniqueFd arriving, create_memfd("target", info.size));
  VMHOP_ASSIGN(RamRegion target, RamRegion::map(info, std::move(arriving), Access::kReadWrite));
  self->targets_.push_back({std::move(target), 0, Userfault(UniqueFd())});

  VMHOP_ASSIGN(self->export_,
               rdma::RdmaMemoryExport::create(self->sources_, {}, [](const Error&) {}));
  VMHOP_ASSIGN(RdmaOffer offer, self->export_->offer(connections, address));
  VMHOP_ASSIGN(rdma::Locality locality, rdma::Locality::load({}));
  VMHOP_ASSIGN(self->import_,
               rdma::RdmaMemoryImport::connect(offer, self->targets_, locality, kTimeout));
  VMHOP_TRY(self->export_->await_connections(kTimeout));
  VMHOP_ASSIGN(ExtentList extents, self->sources_[0].populated_extents());
  VMHOP_ASSIGN(auto keys, self->export_->register_memory(std::vector<ExtentList>{extents}));
  for (const MemoryKeys& part : keys)
    VMHOP_TRY(self->import_->add_keys(part));
  self->registered_ratio_ = static_cast<double>(self->export_->registered_bytes()) /
                            static_cast<double>(total_length(extents));
  return self;
}

}  // namespace vmhop::bench
