// One relocation as the destination sees it: session, device state, commit, and bringing the
// memory home.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/event_loop.h"
#include "backend/destination_link.h"
#include "backend/page_delivery.h"
#include "backend/page_map.h"
#include "backend/state_relay.h"
#include "backend/transport_choice.h"

namespace vmhop {

// Belongs to the loop's thread. Its state is the page map's DestinationState, so that a new pager
// goes on with it.
class DestinationRelocation {
 public:
  struct Options {
    std::string vm;
    std::string machine;  // QEMU's full name of the machine type
    std::string qemu_version;
    std::vector<RegionInfo> regions;
    std::string incoming_socket;  // where QEMU listens after migrate-incoming
    unsigned bulk_lanes = 2;
    TransportPolicy transport;
    OneSidedTransport* one_sided = nullptr;  // null: this program has none
  };
  using Tell = std::function<void(const nlohmann::json&)>;

  static Result<std::unique_ptr<DestinationRelocation>> start(
      EventLoop& loop, Options options, const Credentials& credentials, UniqueFd listening,
      std::vector<DestinationMemory::Region> regions, std::unique_ptr<PageMap> page_map, Tell tell);
  ~DestinationRelocation();

  uint16_t port() const { return link_->port(); }
  int page_map_fd() const { return page_map_->fd(); }

  // What the supervisor reports of QEMU.
  void prepared();                         // it listens for device state
  void refuse(const std::string& reason);  // it cannot
  void loaded();
  void commit_by_operator();  // who decides in the source's place
  void load_failed(const std::string& reason);
  void running(uint64_t resumed_realtime_ns);  // 0: QEMU did not say when
  void returned(const std::string& reason);    // it never ran and is gone
  void ended(const std::string& reason);       // the guest is over: nobody needs the rest
  void lost(const std::string& reason);        // it crashed
  // For a pager that takes over: its predecessor may have died between storing the commit and
  // telling of it.
  void repeat_news();
  // The supervisor is gone: before the device state is loaded that is the end of it.
  void unsupervised();

  DestinationState state() const { return page_map_->destination_state(); }
  nlohmann::json status() const;

 private:
  using Clock = EventLoop::Clock;
  DestinationRelocation(EventLoop& loop, Options options, std::unique_ptr<PageMap> page_map,
                        Tell tell);

  Status start_delivery(std::vector<DestinationMemory::Region> regions);
  Status start_link(const Credentials& credentials, UniqueFd listening);
  std::optional<std::string> objection_to(const Hello& hello) const;
  std::optional<std::string> objection_to_rdma() const;
  void greet();
  void repeat_outcome();
  void on_link_lost(const Error& error);

  void on_message(const Message& message);
  void on_page_message(const Status& done);
  void tell_when_ready();
  void on_read_point(const ReadPoint& point);
  void on_device_state(const DeviceState& state);
  void on_commit(const Commit& commit);
  void on_abort(const std::string& reason);
  void confirm_abort(const std::string& reason);
  void on_wrong_page(const WrongPage& page);
  void on_released();

  void check_drained();
  void tell_drained();
  void start_progress();
  nlohmann::json regions_json() const;
  void set_state(DestinationState state);
  void stop_with(const nlohmann::json& event);

  EventLoop& loop_;
  Options options_;
  Tell tell_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<PageMap> page_map_;
  std::unique_ptr<PageDelivery> delivery_;
  std::unique_ptr<DestinationLink> link_;
  std::unique_ptr<StateRelay> relay_;

  bool prepare_asked_ = false;  // by the source
  bool prepare_told_ = false;   // to the supervisor
  bool qemu_prepared_ = false;

  uint64_t commit_arrived_realtime_ns_ = 0;
  std::optional<Clock::time_point> running_since_;
  std::optional<uint64_t> running_after_commit_ns_;
  uint64_t drained_after_running_ns_ = 0;
  std::string outcome_reason_;
};

}  // namespace vmhop
