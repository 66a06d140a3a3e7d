// Who a connection claims to be: the pre-shared-key identity of its handshake. Each identity has a
// key of its own, derived from a shared secret and the identity's text, so that role, VM and lane
// are bound to what was proved, and nothing can be reflected or used for something else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/key.h"
#include "backend/session/messages.h"

namespace vmhop {

// Names of VMs: 1 to 128 printable bytes without spaces and slashes.
inline constexpr size_t kMaxVmName = 128;
Status check_vm_name(std::string_view vm);

enum class LaneKind : uint8_t { kFault = 1, kBulk = 2 };

// One connection for page data. `generation` is random, made by the source for each session, and
// never used twice: lanes that were lost are dialed again under a new one.
struct LaneId {
  RelocationId relocation{};
  LaneKind kind = LaneKind::kFault;
  uint8_t index = 0;
  uint64_t generation = 0;
  bool operator==(const LaneId&) const = default;
};

struct SessionId {
  std::string vm;
  bool operator==(const SessionId&) const = default;
};

// "vmhop1/session/source/<VM NAME>"
std::string to_identity(const SessionId& id);
// "vmhop1/lane/<relocation>/<fault|bulk>/<index>/<generation>", numbers in hex
std::string to_identity(const LaneId& id);
Result<std::variant<SessionId, LaneId>> parse_identity(std::string_view identity);

// What a session by certificates names instead (as TLS's application protocol, ALPN): its VM is
// known by Hello alone, and a stranger does not see it.
inline constexpr std::string_view kCertificateSession = "vmhop1/session/source";

// The keys that belong to them. `lane_secret` is the session's export_secret(kLaneSecretLabel).
inline constexpr std::string_view kLaneSecretLabel = "EXPORTER vmhop lane";
Result<Secret> session_psk(const Secret& key, const SessionId& id);
Result<Secret> lane_psk(const Secret& lane_secret, const LaneId& id);

// The lanes of a session, all of one generation (Hello names it).
std::vector<LaneId> make_lane_ids(const RelocationId& relocation, uint8_t fault_lanes,
                                  uint8_t bulk_lanes, uint64_t generation);

}  // namespace vmhop
