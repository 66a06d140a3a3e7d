// How a plain data lane starts: both ends prove that they have the lane's key.
//
//   dialer → acceptor   LanePreface
//   acceptor → dialer   challenge, 32 random bytes
//   dialer → acceptor   lane_proof(kDialer)
//   acceptor → dialer   lane_proof(kAcceptor)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/byte_stream.h"
#include "backend/session/identity.h"
#include "backend/session/key.h"
#include "backend/session/lane_registry.h"

namespace vmhop {

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

// The dialer's side, in the calling thread and over within `timeout_ms`.
Status prove_plain_lane(ByteStream& stream, const LaneId& id, const Secret& psk, int timeout_ms);

// The acceptor's side, which never blocks; one thread owns it. A lane that proved its key is taken
// out of `lanes`, so it is accepted once.
class PlainLaneAcceptance {
 public:
  static Result<std::unique_ptr<PlainLaneAcceptance>> create(UniqueFd socket, LaneRegistry& lanes);

  int fd() const { return stream_->fd(); }
  // Goes on as far as it can: the events to wait for before the next step, 0 when done.
  Result<short> step();
  // Once step() returned 0.
  const LaneId& id() const { return id_; }
  std::unique_ptr<ByteStream> finish() { return std::move(stream_); }

 private:
  enum class State { kPreface, kChallenge, kProof, kAnswer, kDone };

  PlainLaneAcceptance(std::unique_ptr<ByteStream> stream, LaneRegistry& lanes)
      : stream_(std::move(stream)), lanes_(lanes) {}
  Result<bool> read_input(size_t size);
  Result<bool> write_output();
  Status take_preface();
  Status take_proof();

  std::unique_ptr<ByteStream> stream_;
  LaneRegistry& lanes_;
  State state_ = State::kPreface;
  std::vector<std::byte> input_;
  size_t input_size_ = 0;
  std::vector<std::byte> output_;
  size_t output_sent_ = 0;
  LaneId id_;
  LaneNonce nonce_{};
  LaneNonce challenge_{};
  std::optional<Secret> psk_;
};

}  // namespace vmhop
