// How the source reaches the destination: one session and its lanes, all new each time.
#pragma once

#include <memory>
#include <vector>

#include "backend/session/identity.h"
#include "backend/session/key.h"
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
  std::vector<Lane> lanes;
};

// Connects, authenticates, says Hello (with a fresh lane generation), and dials the lanes. Blocks
// the calling thread, for a few seconds at most. kRefused carries the destination's reason.
Result<SourceLink> establish_link(const HostPort& destination, const Secret& key, Hello hello);

}  // namespace vmhop
