// How a source relocation reaches its destination, and by which way pages travel.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "backend/session/limits.h"
#include "backend/source_relocation.h"

namespace vmhop {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLaneGrace{1000};
// Device state waiting to be sent before QEMU is asked to wait.
constexpr size_t kMaxQueuedState = 4 << 20;

}  // namespace

// Whether this side offers its memory to RDMA, or why it does not.
Status SourceRelocation::open_memory() {
  const TransportPolicy& policy = options_.transport;
  if (policy.choice == TransportChoice::kTcp) {
    no_rdma_because_ = "--transport tcp was asked for";
  } else if (!policy.rdma_trusted) {
    no_rdma_because_ =
        "the RDMA fabric was not said to be trusted (vmhop relocate --rdma-trusted, or "
        "rdma-trusted=true in the configuration file)";
  } else if (options_.one_sided == nullptr) {
    no_rdma_because_ = "this vmhop was built without RDMA";
  } else if (Status usable = options_.one_sided->usable(); !usable) {
    no_rdma_because_ = usable.error().message();
  } else {
    Status opened = exporter_.open_memory(*options_.one_sided, options_.memory,
                                          [this, alive = alive_](const Error& error) {
                                            loop_.post([this, alive, error] {
                                              if (*alive && rdma_)
                                                lose_lane(session_->generation(), error);
                                            });
                                          });
    if (!opened) no_rdma_because_ = opened.error().message();
  }
  if (policy.choice == TransportChoice::kRdma && !no_rdma_because_.empty()) {
    return refusedf("RDMA was asked for, but {}", no_rdma_because_);
  }
  return ok_status();
}

void SourceRelocation::dial() {
  Hello hello = options_.hello;
  hello.resumed = state_ != SourceState::kConnecting;
  auto memory = exporter_.memory();
  hello.rdma = memory != nullptr;
  auto layout = exporter_.layout();
  session_->dial(
      [this, hello, credentials = credentials_, memory, layout]() mutable -> Result<SourceLink> {
        VMHOP_ASSIGN(SourceLink link,
                     establish_link(options_.destination, credentials, hello, memory.get()));
        if (layout == nullptr) {
          VMHOP_ASSIGN(SourceLayout scanned, exporter_.scan());
          layout = std::make_shared<const SourceLayout>(std::move(scanned));
        }
        link.layout = layout;
        if (!link.rdma) return link;
        // While the VM still runs: pinning takes time that grows with RAM.
        auto registered = memory->register_memory(layout->extents);
        if (registered) {
          link.keys = memory->keys();
        } else {
          link.rdma = false;
          link.rdma_detail = registered.error().message();
        }
        return link;
      });
}

void SourceRelocation::on_dial_failed(const Error& error) {
  if (state_ == SourceState::kConnecting) return fail(error);
  spdlog::debug("dialing the destination again: {}", error.message());
  // It knows of no such relocation (any more): there is nobody who waits for it.
  if (error.kind() == ErrorKind::kRefused && last_word_) return loop_.stop();
  session_->redial_later();
}

void SourceRelocation::on_link(SourceLink link) {
  rdma_ = link.rdma;
  if (state_ == SourceState::kConnecting) {
    if (!rdma_ && options_.transport.choice == TransportChoice::kRdma) {
      return fail(refusedf("RDMA was asked for, but {}", link.rdma_detail));
    }
    serve_lanes(link);
    return begin(link);
  }
  if (last_word_) return session_->send(*last_word_);
  // An exporter that found the decision made: what it scanned is final.
  if (exporter_.layout() == nullptr) {
    exporter_.set_layout(link.layout);
    final_layout_ = true;
  }
  // The VM's memory counts more than the way it takes: without RDMA, the lanes it is.
  serve_lanes(link);
  send_keys(link.keys);
  go_on();
}

void SourceRelocation::begin(const SourceLink& link) {
  if (state_ != SourceState::kConnecting) return;
  state_ = SourceState::kPreparing;
  tell_({{"event", "transport"},
         {"transport", rdma_ ? "rdma" : "tcp"},
         {"detail", link.rdma_detail.empty() ? no_rdma_because_ : link.rdma_detail}});
  exporter_.set_layout(link.layout);
  send_keys(link.keys);
  send_layout(*link.layout, LayoutKind::kPreliminary);
  session_->send(Prepare{});
  session_->start_pings();
}

// After a lost link: what the destination may have missed is said again.
void SourceRelocation::go_on() {
  tell_({{"event", "link"}, {"up", true}, {"message", "connected to the destination again"}});
  session_->send(Commit{before_stop_});
  if (final_layout_) send_layout(*exporter_.layout(), LayoutKind::kFinal);
  announce_checksums();
}

void SourceRelocation::serve_lanes(SourceLink& link) {
  uint64_t generation = session_->generation();
  for (auto& lane : link.lanes) {
    Status added = exporter_.add_lane(std::move(lane.stream), lane.kind,
                                      [this, alive = alive_, generation](const Error& error) {
                                        loop_.post([this, alive, generation, error] {
                                          if (*alive) lose_lane(generation, error);
                                        });
                                      });
    if (!added) return session_->lose(added.error());
  }
}

// The destination ends the session itself when it loses a lane, and closes its lanes once it is
// drained: what it has to say about it is on its way. If nothing comes, the link is done for.
void SourceRelocation::lose_lane(uint64_t generation, const Error& error) {
  loop_.after(kLaneGrace, [this, alive = alive_, generation, error] {
    if (*alive && generation == session_->generation()) session_->lose(error);
  });
}

void SourceRelocation::on_link_lost(const Error& error) {
  rdma_ = false;
  if (checksums_) checksums_->stop();
  exporter_.close_lanes();
  switch (state_) {
    case SourceState::kCommitted:
      tell_({{"event", "link"}, {"up", false}, {"message", error.message()}});
      return session_->redial_later();
    case SourceState::kAborted:
    case SourceState::kReturned:
    case SourceState::kReleased:
      return session_->redial_later();
    case SourceState::kConnecting:
    case SourceState::kPreparing:
    case SourceState::kPrepared:
    case SourceState::kReadPoint:
      return fail(error.with("the connection to the destination"));
  }
}

// Device state is not read from QEMU, nor are checksums computed, faster than the network takes
// them.
void SourceRelocation::pace_device_state() {
  bool behind = session_->queued_bytes() > kMaxQueuedState;
  if (checksums_) checksums_->hold(behind);
  if (!relay_) return;
  if (behind) {
    relay_->pause();
  } else {
    relay_->resume();
  }
}

void SourceRelocation::send_keys(const std::vector<MemoryKeys>& all) {
  if (!rdma_) return;
  for (const MemoryKeys& keys : all) {
    std::span<const MemoryKeys::Range> rest = keys.ranges;
    while (!rest.empty()) {
      size_t count = std::min(rest.size(), kMaxKeysPerMessage);
      auto part = rest.first(count);
      session_->send(MemoryKeys{keys.region, {part.begin(), part.end()}});
      rest = rest.subspan(count);
    }
  }
}

void SourceRelocation::send_layout(const SourceLayout& layout, LayoutKind kind) {
  for (uint32_t region = 0; region < layout.extents.size(); ++region) {
    std::span<const Extent> rest = layout.extents[region];
    do {
      size_t count = std::min(rest.size(), kMaxExtentsPerLayout);
      Layout part;
      part.region = region;
      part.kind = kind;
      part.extents.assign(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(count));
      rest = rest.subspan(count);
      part.last = rest.empty();
      session_->send(part);
    } while (!rest.empty());
  }
}

}  // namespace vmhop
