#include "backend/session/plain_lane.h"

#include <poll.h>

#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "backend/session/deadline.h"

namespace vmhop {
namespace {

constexpr std::array<char, 4> kMagic{'V', 'M', 'H', 'L'};

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

LanePreface make_lane_preface(const LaneId& id, const LaneNonce& nonce) {
  return {kMagic,        kLaneVersion, static_cast<uint8_t>(id.kind), id.index, id.generation,
          id.relocation, nonce};
}

Result<LaneId> parse_lane_preface(const LanePreface& preface) {
  if (preface.magic != kMagic) return refusedf("what arrived is no data lane of vmhop");
  if (preface.version != kLaneVersion) {
    return refusedf(
        "the data lane has version {}, this side version {}. Install the same vmhop on "
        "both hosts",
        preface.version, kLaneVersion);
  }
  if (preface.kind != static_cast<uint8_t>(LaneKind::kFault) &&
      preface.kind != static_cast<uint8_t>(LaneKind::kBulk)) {
    return refusedf("the data lane has the unknown kind {}", preface.kind);
  }
  return LaneId{preface.relocation, static_cast<LaneKind>(preface.kind), preface.index,
                preface.generation};
}

Result<Secret> lane_proof(const Secret& psk, LaneEnd end, const LaneNonce& challenge,
                          const LaneNonce& nonce) {
  // A key of its own: the lane's key itself is for TLS.
  VMHOP_ASSIGN(Secret key, derive(psk, "vmhop plain lane"));
  std::string_view role = end == LaneEnd::kDialer ? "vmhop dialer" : "vmhop acceptor";
  std::array<std::span<const std::byte>, 3> parts{std::as_bytes(std::span(role)), challenge, nonce};
  return hmac(key, parts);
}

Status prove_plain_lane(ByteStream& stream, const LaneId& id, const Secret& psk, int timeout_ms) {
  Deadline deadline(timeout_ms);
  LaneNonce nonce{};
  LaneNonce challenge{};
  LaneNonce answer{};
  VMHOP_TRY(fill_random(nonce));
  LanePreface preface = make_lane_preface(id, nonce);
  VMHOP_TRY(write_exactly(stream, bytes_of(preface), deadline.left_ms()));
  VMHOP_TRY(read_exactly(stream, challenge, deadline.left_ms()));
  VMHOP_ASSIGN(Secret proof, lane_proof(psk, LaneEnd::kDialer, challenge, nonce));
  VMHOP_TRY(write_exactly(stream, proof.bytes(), deadline.left_ms()));
  VMHOP_TRY(read_exactly(stream, answer, deadline.left_ms()));
  VMHOP_ASSIGN(Secret expected, lane_proof(psk, LaneEnd::kAcceptor, challenge, nonce));
  if (!(Secret::from_bytes(answer) == expected)) {
    return refusedf("what answers there did not prove that it has the lane's key");
  }
  return ok_status();
}

Result<std::unique_ptr<PlainLaneAcceptance>> PlainLaneAcceptance::create(UniqueFd socket,
                                                                         LaneRegistry& lanes) {
  VMHOP_ASSIGN(auto stream, make_plain_stream(std::move(socket)));
  return std::unique_ptr<PlainLaneAcceptance>(new PlainLaneAcceptance(std::move(stream), lanes));
}

Result<short> PlainLaneAcceptance::step() {
  for (;;) {
    switch (state_) {
      case State::kPreface: {
        VMHOP_ASSIGN(bool complete, read_input(sizeof(LanePreface)));
        if (!complete) return short{POLLIN};
        VMHOP_TRY(take_preface());
        state_ = State::kChallenge;
        break;
      }
      case State::kProof: {
        VMHOP_ASSIGN(bool complete, read_input(sizeof(LaneNonce)));
        if (!complete) return short{POLLIN};
        VMHOP_TRY(take_proof());
        state_ = State::kAnswer;
        break;
      }
      case State::kChallenge:
      case State::kAnswer: {
        VMHOP_ASSIGN(bool complete, write_output());
        if (!complete) return short{POLLOUT};
        state_ = state_ == State::kChallenge ? State::kProof : State::kDone;
        break;
      }
      case State::kDone:
        return short{0};
    }
  }
}

Status PlainLaneAcceptance::take_preface() {
  LanePreface preface{};
  std::memcpy(&preface, input_.data(), sizeof preface);
  input_size_ = 0;
  VMHOP_ASSIGN(id_, parse_lane_preface(preface));
  VMHOP_ASSIGN(psk_, lanes_.find_psk(id_, DataProtection::kPlain));
  nonce_ = preface.nonce;
  VMHOP_TRY(fill_random(challenge_));
  output_.assign(challenge_.begin(), challenge_.end());
  return ok_status();
}

Status PlainLaneAcceptance::take_proof() {
  LaneNonce proof{};
  std::memcpy(proof.data(), input_.data(), sizeof proof);
  VMHOP_ASSIGN(Secret expected, lane_proof(*psk_, LaneEnd::kDialer, challenge_, nonce_));
  if (!(Secret::from_bytes(proof) == expected)) {
    return refusedf("the lane {} came without proof that it has the key", to_identity(id_));
  }
  VMHOP_TRY(lanes_.take(id_));
  VMHOP_ASSIGN(Secret answer, lane_proof(*psk_, LaneEnd::kAcceptor, challenge_, nonce_));
  output_.assign(answer.bytes().begin(), answer.bytes().end());
  output_sent_ = 0;
  return ok_status();
}

// True when `size` bytes are in input_.
Result<bool> PlainLaneAcceptance::read_input(size_t size) {
  input_.resize(size);
  while (input_size_ < size) {
    VMHOP_ASSIGN(size_t got, stream_->read_some(std::span(input_).subspan(input_size_)));
    if (got == 0) return false;
    input_size_ += got;
  }
  return true;
}

Result<bool> PlainLaneAcceptance::write_output() {
  while (output_sent_ < output_.size()) {
    VMHOP_ASSIGN(size_t put, stream_->write_some(std::span(output_).subspan(output_sent_)));
    if (put == 0) return false;
    output_sent_ += put;
  }
  return true;
}

}  // namespace vmhop
