// What the two sides of an RDMA connection show each other in rdma_cm's private data. Who has no
// ticket is rejected like anybody else who knocks at a wrong port, and learns nothing.
#pragma once

#include <openssl/crypto.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "backend/session/messages.h"

namespace vmhop::rdma {

inline constexpr uint32_t kTicketMagic = 0x54484d56;  // "VMHT"
inline constexpr uint16_t kTicketVersion = 1;

// 56 bytes of private data are left to us in a request over IPv4 or IPv6 (92 of InfiniBand's less
// the 36 of rdma_cm's own header); the kernel pads it with zeros.
struct TicketData {
  uint32_t magic;
  uint16_t version;
  uint16_t connection;  // which of the offer
  uint8_t token[32];
};
static_assert(sizeof(TicketData) == 40);

inline TicketData make_ticket(uint16_t connection, const RdmaToken& token) {
  TicketData data{kTicketMagic, kTicketVersion, connection, {}};
  std::memcpy(data.token, token.data(), token.size());
  return data;
}

// Empty when it is nothing of ours, or of another version.
inline std::optional<TicketData> read_ticket(const void* bytes, size_t length) {
  TicketData data{};
  if (bytes == nullptr || length < sizeof data) return std::nullopt;
  std::memcpy(&data, bytes, sizeof data);
  if (data.magic != kTicketMagic || data.version != kTicketVersion) return std::nullopt;
  return data;
}

// In constant time.
inline bool same_token(const TicketData& data, const RdmaToken& token) {
  return CRYPTO_memcmp(data.token, token.data(), token.size()) == 0;
}

}  // namespace vmhop::rdma
