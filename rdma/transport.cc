#include "rdma/transport.h"

#include <spdlog/spdlog.h>

#include "rdma/devices.h"
#include "rdma/memory_export.h"
#include "rdma/memory_import.h"

namespace vmhop::rdma {
namespace {

class RdmaTransport final : public OneSidedTransport {
 public:
  explicit RdmaTransport(BindPolicy bind) : bind_(bind) {}

  Status usable() const override {
    DeviceReport report = report_devices();
    if (report.usable()) return ok_status();
    return refusedf("RDMA cannot be used: {}", report.advice());
  }

  Result<std::unique_ptr<MemoryExport>> create_export(
      std::span<const RamRegion> regions, ExportOptions options,
      std::function<void(const Error&)> on_lost) override {
    VMHOP_ASSIGN(auto made, RdmaMemoryExport::create(regions, options, std::move(on_lost)));
    return std::unique_ptr<MemoryExport>(std::move(made));
  }

  Result<std::unique_ptr<MemoryImport>> connect(const RdmaOffer& offer,
                                                std::span<const DestinationMemory::Region> regions,
                                                std::chrono::milliseconds timeout) override {
    VMHOP_ASSIGN(Locality locality, Locality::load(bind_));
    VMHOP_ASSIGN(auto made, RdmaMemoryImport::connect(offer, regions, locality, timeout));
    settle_near(*made, locality, regions);
    return std::unique_ptr<MemoryImport>(std::move(made));
  }

 private:
  // Threads (this process has the pager's alone) and memory that is yet to come. A wish: what
  // refuses it only makes pages slower.
  static void settle_near(const RdmaMemoryImport& import, const Locality& locality,
                          std::span<const DestinationMemory::Region> regions) {
    auto node = locality.node_for(numa_node_of(import.device()));
    if (!node) return;
    if (Status bound = locality.bind_process(*node); !bound) {
      spdlog::warn("{}", bound.error().message());
    }
    for (const auto& region : regions) {
      Status preferred =
          locality.prefer_memory(*node, {region.ram.alias(), region.ram.info().size});
      if (!preferred) spdlog::warn("{}", preferred.error().message());
    }
  }

  BindPolicy bind_;
};

}  // namespace

std::unique_ptr<OneSidedTransport> make_transport(BindPolicy bind) {
  return std::make_unique<RdmaTransport>(bind);
}

}  // namespace vmhop::rdma
