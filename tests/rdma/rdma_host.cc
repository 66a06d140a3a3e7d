#include "tests/rdma/rdma_host.h"

namespace vmhop::testing_support {

using std::chrono::seconds;

RdmaPair::RdmaPair(const std::vector<MemoryImage>& images, size_t connections,
                   OneSidedTransport::ExportOptions options)
    : connections_(connections), sources_(export_images(images)) {
  for (const MemoryImage& image : images) {
    UniqueFd memfd = must(create_memfd("target", image.info().size));
    targets_.push_back({must(RamRegion::map(image.info(), std::move(memfd), Access::kReadWrite)), 0,
                        Userfault(UniqueFd())});
  }
  export_ = must(rdma::RdmaMemoryExport::create(sources_, options, [this](const Error& error) {
    std::lock_guard lock(mutex_);
    losses_.push_back(error.message());
  }));
}

Result<RdmaOffer> RdmaPair::offer() {
  return export_->offer(connections_, lab_address());
}

Status RdmaPair::connect(const RdmaOffer& offer) {
  auto locality = must(rdma::Locality::load({}));
  VMHOP_ASSIGN(import_, rdma::RdmaMemoryImport::connect(offer, targets_, locality, seconds(10)));
  return export_->await_connections(seconds(10));
}

std::vector<ExtentList> RdmaPair::populated() const {
  std::vector<ExtentList> extents;
  for (const RamRegion& region : sources_)
    extents.push_back(must(region.populated_extents()));
  return extents;
}

Status RdmaPair::send_keys() {
  VMHOP_ASSIGN(auto added, export_->register_memory(populated()));
  for (const MemoryKeys& keys : added)
    VMHOP_TRY(import_->add_keys(keys));
  return ok_status();
}

void RdmaPair::establish() {
  must(connect(must(offer())));
  must(send_keys());
}

std::vector<std::string> RdmaPair::losses() const {
  std::lock_guard lock(mutex_);
  return losses_;
}

std::unique_ptr<PageSource> RdmaPair::source(size_t connection,
                                             std::unique_ptr<PageSource> by_name) {
  return must(import_->take_source(connection, std::move(by_name)));
}

}  // namespace vmhop::testing_support
