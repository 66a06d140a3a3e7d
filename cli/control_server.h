// The supervisor's control socket: requests come in, answers and news go out. Belongs to the event
// loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "backend/base/accept_pause.h"
#include "backend/base/control_channel.h"
#include "backend/base/event_loop.h"
#include "backend/base/result.h"

namespace vmhop {

// What a client reads in place of what it asked for.
nlohmann::json error_event(ErrorKind kind, const std::string& message);

class ControlServer {
 public:
  using ClientId = uint64_t;
  struct Callbacks {
    std::function<void(ClientId, ControlMessage request)> on_request;
    std::function<void(ClientId)> on_gone;
  };

  static Result<std::unique_ptr<ControlServer>> start(EventLoop& loop, const std::string& path,
                                                      Callbacks callbacks);
  ~ControlServer();

  // A client that does not read is dropped rather than waited for. One whose request cannot be
  // read is told why and dropped: where descriptors are lacking, for those that it sends.
  void send(ClientId client, const nlohmann::json& message);

 private:
  ControlServer(EventLoop& loop, std::string path, UniqueFd listening, Callbacks callbacks)
      : loop_(loop),
        path_(std::move(path)),
        listening_(std::move(listening)),
        callbacks_(std::move(callbacks)) {}
  void accept_client();
  void serve(ClientId id);
  void drop(ClientId id);

  EventLoop& loop_;
  std::string path_;
  UniqueFd listening_;
  AcceptPause pause_{loop_, listening_.get()};
  UniqueFd spare_;  // given up for a client when there is no other descriptor
  Callbacks callbacks_;
  ClientId next_id_ = 1;
  std::map<ClientId, ControlChannel> clients_;
};

}  // namespace vmhop
