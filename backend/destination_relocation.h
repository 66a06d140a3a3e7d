// One relocation as the destination sees it: session, device state, commit, and bringing the
// memory home.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/event_loop.h"
#include "backend/page_map.h"
#include "backend/pager.h"
#include "backend/session/acceptor.h"
#include "backend/session/message_stream.h"
#include "backend/state_relay.h"

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
  };
  using Tell = std::function<void(const nlohmann::json&)>;

  static Result<std::unique_ptr<DestinationRelocation>> start(
      EventLoop& loop, Options options, Secret key, UniqueFd listening,
      std::vector<DestinationMemory::Region> regions, std::unique_ptr<PageMap> page_map, Tell tell);
  ~DestinationRelocation();

  uint16_t port() const { return acceptor_->port(); }
  int page_map_fd() const { return page_map_->fd(); }

  // What the supervisor reports of QEMU.
  void prepared();                         // it listens for device state
  void refuse(const std::string& reason);  // it cannot
  void loaded();
  void load_failed(const std::string& reason);
  void running(uint64_t resumed_realtime_ns);  // 0: QEMU did not say when
  void returned(const std::string& reason);    // it never ran and is gone
  void ended(const std::string& reason);       // the guest is over: nobody needs the rest
  void lost(const std::string& reason);        // it crashed
  // For a pager that takes over: its predecessor may have died between storing the commit and
  // telling of it.
  void repeat_commit();
  // The supervisor is gone: before the device state is loaded that is the end of it.
  void unsupervised();

  DestinationState state() const { return page_map_->destination_state(); }
  nlohmann::json status() const;

 private:
  using Clock = EventLoop::Clock;
  DestinationRelocation(EventLoop& loop, Options options, std::unique_ptr<PageMap> page_map,
                        Tell tell);

  void on_accepted(AcceptedConnection connection);
  void on_session(AcceptedSession session);
  void greet(const Hello& hello);
  std::optional<std::string> objection_to(const Hello& hello) const;
  void on_lane(AcceptedLane lane);
  void attach_lanes_if_allowed();
  bool all_lanes_there() const;
  void replace_session();
  void lose_link(const Error& error);
  void send(const Message& message);
  void serve_session();
  void update_session_events();

  void on_message(const Message& message);
  void on_layout(const Layout& layout);
  void forget_partial_layout();
  void on_prepare();
  void on_read_point(const ReadPoint& point);
  void on_device_state(const DeviceState& state);
  void on_commit(const Commit& commit);
  void on_abort(const std::string& reason);
  void on_released();
  void repeat_outcome();

  void check_drained();
  void start_progress();
  void set_state(DestinationState state);
  void stop_with(const nlohmann::json& event);

  EventLoop& loop_;
  Options options_;
  Tell tell_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<PageMap> page_map_;
  std::unique_ptr<Pager> pager_;
  std::unique_ptr<Acceptor> acceptor_;

  // A source that has the key but has not said Hello yet, and the one that is welcome.
  struct Newcomer {
    std::unique_ptr<MessageStream> session;
    std::unique_ptr<Secret> lane_secret;
    std::string peer;
  };
  void serve_newcomer(int fd);
  std::map<int, Newcomer> newcomers_;

  std::unique_ptr<MessageStream> session_;
  std::string peer_;
  Hello hello_;
  std::vector<AcceptedLane> lanes_;  // arrived and not yet attached
  size_t lanes_arrived_ = 0;
  bool qemu_prepared_ = false;
  bool prepare_asked_ = false;
  bool may_read_ = false;  // the read point has passed

  std::unique_ptr<StateRelay> relay_;
  std::vector<ExtentList> extents_;  // of the layout under way
  std::vector<bool> extents_done_;
  std::vector<bool> extents_final_;
  bool final_layout_ = false;

  uint64_t commit_arrived_realtime_ns_ = 0;
  std::optional<Clock::time_point> running_since_;
  std::optional<uint64_t> running_after_commit_ns_;
  uint64_t drained_after_running_ns_ = 0;
  std::string outcome_reason_;
};

}  // namespace vmhop
