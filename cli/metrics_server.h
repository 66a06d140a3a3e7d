// The metrics for who comes and asks: a plain HTTP server that knows one page, /metrics.
#pragma once

#include <string>

#include "backend/base/accept_pause.h"
#include "backend/base/event_loop.h"
#include "backend/base/result.h"

namespace vmhop {

// Belongs to the loop's thread.
class MetricsServer {
 public:
  // Serves on `listening` what host_metrics() says of the VMs below `base`.
  static Result<std::unique_ptr<MetricsServer>> start(EventLoop& loop, UniqueFd listening,
                                                      std::string base);
  ~MetricsServer();

 private:
  struct Client {
    UniqueFd socket;
    std::string request;
    std::string response;  // what has not been sent yet
    EventLoop::TimerId deadline;
  };

  MetricsServer(EventLoop& loop, UniqueFd listening, std::string base)
      : loop_(loop), listening_(std::move(listening)), base_(std::move(base)) {}
  void accept_client();
  void read_request(int fd);
  void send_response(int fd);
  void finish(int fd);
  void drop(int fd);
  std::string answer(const std::string& request) const;

  EventLoop& loop_;
  UniqueFd listening_;
  AcceptPause pause_{loop_, listening_.get()};
  std::string base_;
  std::map<int, Client> clients_;
};

// `vmhop metrics --listen`: until SIGINT or SIGTERM.
Result<int> serve_metrics(const std::string& address, const std::string& base);

}  // namespace vmhop
