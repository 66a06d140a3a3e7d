#include "backend/exporter.h"

namespace vmhop {

Result<SourceLayout> Exporter::scan() const {
  SourceLayout layout;
  for (const RamRegion& region : regions_) {
    VMHOP_ASSIGN(ExtentList extents, region.populated_extents());
    layout.extents.push_back(std::move(extents));
  }
  return layout;
}

void Exporter::set_layout(std::shared_ptr<const SourceLayout> layout) {
  layout_ = std::move(layout);
  store_.set_layout(layout_);
}

Status Exporter::open_memory(OneSidedTransport& transport, OneSidedTransport::ExportOptions options,
                             std::function<void(const Error&)> on_lost) {
  VMHOP_ASSIGN(memory_, transport.create_export(regions_, options, std::move(on_lost)));
  return ok_status();
}

Status Exporter::add_lane(std::unique_ptr<ByteStream> stream, LaneKind kind,
                          std::function<void(Error)> on_closed) {
  auto pace = kind == LaneKind::kFault ? PageServer::Pace::kFaults : PageServer::Pace::kBulk;
  VMHOP_ASSIGN(auto server,
               PageServer::start(std::move(stream), store_, pace, counters_, std::move(on_closed)));
  lanes_.push_back(std::move(server));
  return ok_status();
}

}  // namespace vmhop
