// A small ControlChannel server at a path in the VM's runtime directory: how status and drop reach
// an exporter or a pager whose supervisor is gone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "backend/base/accept_pause.h"
#include "backend/base/control_channel.h"
#include "backend/base/event_loop.h"
#include "backend/base/result.h"

namespace vmhop {

// Belongs to the loop's thread.
class LocalServer {
 public:
  // Answers one request; what it returns is sent back.
  using Handler = std::function<nlohmann::json(const nlohmann::json& request)>;

  static Result<std::unique_ptr<LocalServer>> start(EventLoop& loop, const std::string& path,
                                                    Handler handler);
  ~LocalServer();  // removes the socket file

 private:
  LocalServer(EventLoop& loop, std::string path, UniqueFd listening, Handler handler)
      : loop_(loop),
        path_(std::move(path)),
        listening_(std::move(listening)),
        handler_(std::move(handler)) {}
  void accept_client();
  void serve_client(int fd);
  nlohmann::json answer(const nlohmann::json& request) const;

  EventLoop& loop_;
  std::string path_;
  UniqueFd listening_;
  AcceptPause pause_{loop_, listening_.get()};
  Handler handler_;
  std::map<int, ControlChannel> clients_;
};

}  // namespace vmhop
