// How the source dials a data lane; the other end is the Acceptor.
//
// An encrypted lane is a TLS connection under the lane's identity. On a plain one both sides prove
// that they have the lane's key (plain_lane.h), and nothing after that is encrypted or
// authenticated: for trusted networks only.
#pragma once

#include <memory>

#include "backend/base/result.h"
#include "backend/session/byte_stream.h"
#include "backend/session/identity.h"
#include "backend/session/key.h"
#include "backend/session/messages.h"
#include "backend/session/tcp.h"

namespace vmhop {

// Connects and authenticates lane `id` within `timeout_ms`. Blocks the calling thread.
Result<std::unique_ptr<ByteStream>> dial_lane(const HostPort& destination, const LaneId& id,
                                              const Secret& lane_secret, DataProtection protection,
                                              int timeout_ms);

}  // namespace vmhop
