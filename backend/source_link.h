// How the source reaches the destination: one session, its lanes, and RDMA connections where both
// sides have them; all new each time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/exporter.h"
#include "backend/session/credentials.h"
#include "backend/session/identity.h"
#include "backend/session/message_stream.h"
#include "backend/session/tcp.h"

namespace vmhop {

struct SourceLink {
  struct Lane {
    LaneKind kind;
    std::unique_ptr<ByteStream> stream;
  };
  std::unique_ptr<MessageStream> session;
  Welcome welcome;
  std::vector<Message> early;  // what the destination said before this was handed over
  std::vector<Lane> lanes;
  // Whether the destination reads by RDMA; the route, or why it does not.
  bool rdma = false;
  std::string rdma_detail;
  // What is populated, and with RDMA all that is registered of it.
  std::shared_ptr<const SourceLayout> layout;
  std::vector<MemoryKeys> keys;
};

// Connects, authenticates, says Hello (with a fresh lane generation), offers RDMA connections when
// `memory` is there, and dials the lanes. Blocks the calling thread, for a few seconds at most.
// kRefused carries the destination's reason.
Result<SourceLink> establish_link(const HostPort& destination, const Credentials& credentials,
                                  Hello hello, MemoryExport* memory);

}  // namespace vmhop
