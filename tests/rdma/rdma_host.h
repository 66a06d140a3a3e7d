// Both ends of an RDMA transport within the test's process, on the lab's device.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backend/one_sided.h"
#include "rdma/memory_export.h"
#include "rdma/memory_import.h"
#include "tests/backend/memory_image.h"
#include "tests/backend/pager_run.h"
#include "tests/backend/source_host.h"

namespace vmhop::testing_support {

// Where the lab's device is.
inline std::string lab_address() {
  const char* address = std::getenv("VMHOP_RDMA_ADDRESS");
  return address != nullptr ? address : "";
}

inline std::vector<RamRegion> export_images(const std::vector<MemoryImage>& images) {
  std::vector<RamRegion> regions;
  for (const MemoryImage& image : images)
    regions.push_back(image.exported());
  return regions;
}

// Memory that images fill at one end, and empty memory of the same shape at the other.
class RdmaPair {
 public:
  explicit RdmaPair(const std::vector<MemoryImage>& images, size_t connections = 3,
                    OneSidedTransport::ExportOptions options = {});

  // The steps of a relocation, each of which a test may replace.
  Result<RdmaOffer> offer();
  Status connect(const RdmaOffer& offer);
  Status send_keys();
  // All of them; ends the test program when one fails.
  void establish();

  std::vector<ExtentList> populated() const;
  std::unique_ptr<PageSource> source(size_t connection, std::unique_ptr<PageSource> by_name = {});
  rdma::RdmaMemoryExport& exported() { return *export_; }
  rdma::RdmaMemoryImport& imported() { return *import_; }
  void end_export() { export_.reset(); }
  void end_import() { import_.reset(); }
  std::byte* target(uint32_t region) const { return targets_[region].ram.alias(); }
  // What on_lost was told.
  std::vector<std::string> losses() const;

 private:
  size_t connections_;
  std::vector<RamRegion> sources_;
  std::vector<DestinationMemory::Region> targets_;
  mutable std::mutex mutex_;  // guards losses_
  std::vector<std::string> losses_;
  std::unique_ptr<rdma::RdmaMemoryExport> export_;
  std::unique_ptr<rdma::RdmaMemoryImport> import_;
};

}  // namespace vmhop::testing_support
