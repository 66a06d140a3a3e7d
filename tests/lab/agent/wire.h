// What the lab's agent and those who ask it say to each other: JSON, one line each, over TCP.
//
//   to the agent     {"argv": […], "environment": ["NAME=value", …], "directory": "/", "output":
//                    "/path", "input": "text"}, then {"signal": 15} at any time
//   from the agent   {"code": 0, "signal": 0} when the process has ended, or {"error": "…"}
//
// One connection is one process: when it is lost, the process and its group are killed.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop::lab {

constexpr uint16_t kAgentPort = 7780;

class AgentConnection {
 public:
  explicit AgentConnection(UniqueFd socket) : socket_(std::move(socket)) {}

  int fd() const { return socket_.get(); }
  Status send(const nlohmann::json& message) const;
  // Waits for the next one. kTimedOut; kClosed when the other side is gone.
  Result<nlohmann::json> receive(int timeout_ms);

 private:
  UniqueFd socket_;
  std::string partial_;
};

}  // namespace vmhop::lab
