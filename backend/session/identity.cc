#include "backend/session/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace vmhop {
namespace {

constexpr std::string_view kSessionPrefix = "vmhop1/session/source/";
constexpr std::string_view kLanePrefix = "vmhop1/lane/";

std::string_view kind_name(LaneKind kind) {
  return kind == LaneKind::kFault ? "fault" : "bulk";
}

// Takes the text before the next slash off `rest`; all of it when there is none.
std::string_view take_part(std::string_view& rest) {
  size_t slash = rest.find('/');
  std::string_view part = rest.substr(0, slash);
  rest.remove_prefix(slash == std::string_view::npos ? rest.size() : slash + 1);
  return part;
}

bool parse_hex(std::string_view text, size_t digits, uint64_t& value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return text.size() == digits && error == std::errc() && end == text.data() + text.size();
}

Error unknown_identity() {
  // What a stranger claims to be is not repeated: it goes to logs.
  return refusedf("an identity that is none of vmhop's");
}

// Exactly one text stands for each identity: to_identity() of the result gives it back.
Result<LaneId> parse_lane(std::string_view identity) {
  std::string_view rest = identity.substr(kLanePrefix.size());
  LaneId id;
  uint64_t byte = 0;
  std::string_view relocation = take_part(rest);
  if (relocation.size() != 2 * id.relocation.size()) return unknown_identity();
  for (size_t i = 0; i < id.relocation.size(); ++i) {
    if (!parse_hex(relocation.substr(2 * i, 2), 2, byte)) return unknown_identity();
    id.relocation[i] = static_cast<uint8_t>(byte);
  }
  std::string_view kind = take_part(rest);
  id.kind = kind == kind_name(LaneKind::kFault) ? LaneKind::kFault : LaneKind::kBulk;
  uint64_t index = 0;
  if (!parse_hex(take_part(rest), 2, index)) return unknown_identity();
  id.index = static_cast<uint8_t>(index);
  if (!parse_hex(take_part(rest), 16, id.generation)) return unknown_identity();
  if (to_identity(id) != identity) return unknown_identity();
  return id;
}

}  // namespace

Status check_vm_name(std::string_view vm) {
  if (vm.empty() || vm.size() > kMaxVmName) {
    return refusedf("a VM's name has 1 to {} bytes, not {}", kMaxVmName, vm.size());
  }
  bool printable = std::all_of(vm.begin(), vm.end(), [](char c) {
    auto byte = static_cast<unsigned char>(c);
    return byte > ' ' && byte != 0x7f && c != '/';
  });
  if (!printable) return refusedf("a VM's name has no spaces, slashes or control characters");
  return ok_status();
}

std::string to_identity(const SessionId& id) {
  return fmt::format("{}{}", kSessionPrefix, id.vm);
}

std::string to_identity(const LaneId& id) {
  std::string identity(kLanePrefix);
  for (uint8_t byte : id.relocation)
    fmt::format_to(std::back_inserter(identity), "{:02x}", byte);
  fmt::format_to(std::back_inserter(identity), "/{}/{:02x}/{:016x}", kind_name(id.kind), id.index,
                 id.generation);
  return identity;
}

Result<std::variant<SessionId, LaneId>> parse_identity(std::string_view identity) {
  using Id = std::variant<SessionId, LaneId>;
  if (identity.starts_with(kSessionPrefix)) {
    SessionId id{std::string(identity.substr(kSessionPrefix.size()))};
    VMHOP_TRY(check_vm_name(id.vm));
    return Id(std::move(id));
  }
  if (!identity.starts_with(kLanePrefix)) return unknown_identity();
  VMHOP_ASSIGN(LaneId id, parse_lane(identity));
  return Id(id);
}

Result<Secret> session_psk(const Secret& key, const SessionId& id) {
  return derive(key, to_identity(id));
}

Result<Secret> lane_psk(const Secret& lane_secret, const LaneId& id) {
  return derive(lane_secret, to_identity(id));
}

std::vector<LaneId> make_lane_ids(const RelocationId& relocation, uint8_t fault_lanes,
                                  uint8_t bulk_lanes, uint64_t generation) {
  std::vector<LaneId> ids;
  for (uint8_t i = 0; i < fault_lanes; ++i)
    ids.push_back({relocation, LaneKind::kFault, i, generation});
  for (uint8_t i = 0; i < bulk_lanes; ++i)
    ids.push_back({relocation, LaneKind::kBulk, i, generation});
  return ids;
}

}  // namespace vmhop
