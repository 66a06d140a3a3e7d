// The engine of the source: holds a stopped VM's memory and serves it. It knows neither the session
// nor QEMU; exporter_process.h joins it to them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/one_sided.h"
#include "backend/ram_region.h"
#include "backend/session/byte_stream.h"
#include "backend/session/identity.h"
#include "backend/tcp/page_server.h"

namespace vmhop {

// One thread owns it, but for scan(), which any thread may call.
class Exporter {
 public:
  explicit Exporter(std::vector<RamRegion> regions)
      : regions_(std::move(regions)), store_(regions_) {}

  std::span<const RamRegion> regions() const { return regions_; }

  // What is populated now. Takes time that grows with RAM.
  Result<SourceLayout> scan() const;
  // What lanes are answered from; scan()'s result, first while the VM runs, then after the stop.
  void set_layout(std::shared_ptr<const SourceLayout> layout);
  std::shared_ptr<const SourceLayout> layout() const { return layout_; }

  // Lets the memory be read by a one-sided transport too. `on_lost` comes from its thread.
  Status open_memory(OneSidedTransport& transport, OneSidedTransport::ExportOptions options,
                     std::function<void(const Error&)> on_lost);
  // Null when it is not open. Whoever uses it in another thread holds the pointer meanwhile.
  std::shared_ptr<MemoryExport> memory() const { return memory_; }
  void close_memory() { memory_.reset(); }

  // Serves a lane until it is closed; `on_closed` comes from the lane's thread.
  Status add_lane(std::unique_ptr<ByteStream> stream, LaneKind kind,
                  std::function<void(Error)> on_closed);
  void close_lanes() { lanes_.clear(); }

  const PageServerCounters& counters() const { return counters_; }

 private:
  std::vector<RamRegion> regions_;
  PageStore store_;
  PageServerCounters counters_;
  std::shared_ptr<const SourceLayout> layout_;
  std::vector<std::unique_ptr<PageServer>> lanes_;
  std::shared_ptr<MemoryExport> memory_;
};

}  // namespace vmhop
