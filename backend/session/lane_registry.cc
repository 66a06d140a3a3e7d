#include "backend/session/lane_registry.h"

#include <utility>

namespace vmhop {

Status LaneRegistry::expect(std::span<const LaneId> lanes, const Secret& lane_secret,
                            DataProtection protection) {
  std::map<std::string, Expected> added;
  for (const LaneId& id : lanes) {
    VMHOP_ASSIGN(Secret psk, lane_psk(lane_secret, id));
    added.insert_or_assign(to_identity(id), Expected{id.relocation, protection, std::move(psk)});
  }
  std::lock_guard lock(mutex_);
  for (auto& [identity, expected] : added)
    lanes_.insert_or_assign(identity, std::move(expected));
  return ok_status();
}

void LaneRegistry::forget(const RelocationId& relocation) {
  std::lock_guard lock(mutex_);
  std::erase_if(lanes_,
                [&relocation](const auto& lane) { return lane.second.relocation == relocation; });
}

Result<Secret> LaneRegistry::find_psk(const LaneId& id, DataProtection protection) const {
  std::string identity = to_identity(id);
  std::lock_guard lock(mutex_);
  auto found = lanes_.find(identity);
  if (found == lanes_.end()) {
    return refusedf("the lane {} is not expected, or was used already", identity);
  }
  if (found->second.protection != protection) {
    return refusedf("the lane {} comes {}, against what the session agreed", identity,
                    protection == DataProtection::kPlain ? "unencrypted" : "encrypted");
  }
  return found->second.psk.clone();
}

Status LaneRegistry::take(const LaneId& id) {
  std::string identity = to_identity(id);
  std::lock_guard lock(mutex_);
  if (lanes_.erase(identity) == 0) return refusedf("the lane {} was used already", identity);
  return ok_status();
}

}  // namespace vmhop
