// One keep-alive HTTP connection, driven by poll().
#pragma once

#include <netinet/in.h>

#include <optional>
#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/clock.h"

namespace vmhop::lab {

class HttpConnection {
 public:
  explicit HttpConnection(const sockaddr_in& server) : server_(server) {}

  // Begins a request, on a new connection if there is none.
  Status ask(const std::string& file);
  bool waiting() const { return waiting_; }
  Clock::time_point asked() const { return asked_; }

  int fd() const { return socket_.get(); }
  short events() const;
  // After poll() said so: the body, once it is whole. An error means that the connection broke and
  // with it the request.
  Result<std::optional<std::string>> advance();
  // Gives the request and the connection up.
  void close();

 private:
  Status open();
  Status send_more();
  Result<std::optional<std::string>> parse();

  sockaddr_in server_;
  UniqueFd socket_;
  bool waiting_ = false;
  Clock::time_point asked_;
  std::string unsent_;
  std::string received_;
};

}  // namespace vmhop::lab
