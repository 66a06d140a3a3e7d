// How the source dials a data lane; the other end is the Acceptor.
//
// An encrypted lane is a TLS connection under the lane's identity. A plain one starts with a
// LanePreface; then both sides prove that they have the lane's key, and nothing after that is
// encrypted or authenticated: for trusted networks only.
//
//   dialer → acceptor   LanePreface
//   acceptor → dialer   challenge, 32 random bytes
//   dialer → acceptor   HMAC(key, "vmhop dialer", challenge, nonce)
//   acceptor → dialer   HMAC(key, "vmhop acceptor", challenge, nonce)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

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

inline constexpr uint16_t kLaneVersion = 1;
using LaneNonce = std::array<std::byte, 32>;

// On the wire, little-endian.
struct LanePreface {
  std::array<char, 4> magic;  // "VMHL"
  uint16_t version;           // kLaneVersion
  uint8_t kind;               // LaneKind
  uint8_t index;
  uint64_t generation;
  RelocationId relocation;
  LaneNonce nonce;  // the dialer's part in the proofs
};
static_assert(sizeof(LanePreface) == 64);

LanePreface make_lane_preface(const LaneId& id, const LaneNonce& nonce);
Result<LaneId> parse_lane_preface(const LanePreface& preface);

enum class LaneEnd { kDialer, kAcceptor };
// What `end` sends to prove that it has the lane's key.
Result<Secret> lane_proof(const Secret& psk, LaneEnd end, const LaneNonce& challenge,
                          const LaneNonce& nonce);

}  // namespace vmhop
