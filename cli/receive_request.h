// What `vmhop relocate NAME ssh://HOST` asks of `vmhop internal-receive` at that host. It goes
// through ssh's standard input, not in its arguments: no shell can misread a QEMU command line
// there, and nobody sees the key. docs/protocol-local.md has the format.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/key.h"
#include "backend/transport_choice.h"

namespace vmhop {

struct ReceiveRequest {
  std::string vm;
  std::vector<std::string> qemu;  // program first
  std::string directory;          // that relative paths among them mean; empty: none in particular
  uint16_t port = 0;              // to listen at; 0: one that is free
  TransportPolicy transport;
  // Without a sign of life for so long the receiver ends, as it does at the end of its input.
  std::chrono::milliseconds lease{20'000};
};

struct ReceivedRequest {
  ReceiveRequest request;
  Secret key;  // for this relocation alone
};

inline constexpr const char* kReceiveCommand = "internal-receive";

// No longer than this, so that a pipe takes it whole.
inline constexpr size_t kMaxReceiveRequest = 256 * 1024;

Status send_receive_request(int fd, const ReceiveRequest& request, const Secret& key);
// Exactly the request and not a byte more. kRefused when it is none that this vmhop understands.
Result<ReceivedRequest> read_receive_request(int fd);

}  // namespace vmhop
