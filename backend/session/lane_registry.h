// The data lanes that are welcome at the destination, each once. From any thread.
#pragma once

#include <map>
#include <mutex>
#include <span>
#include <string>

#include "backend/base/result.h"
#include "backend/session/identity.h"
#include "backend/session/key.h"
#include "backend/session/messages.h"

namespace vmhop {

class LaneRegistry {
 public:
  Status expect(std::span<const LaneId> lanes, const Secret& lane_secret,
                DataProtection protection);
  void forget(const RelocationId& relocation);

  // The key of a lane that is welcome under `protection`; kRefused if it is not.
  Result<Secret> find_psk(const LaneId& id, DataProtection protection) const;
  // The lane is here and no other may claim to be it: kRefused if it was taken or forgotten.
  Status take(const LaneId& id);

 private:
  struct Expected {
    RelocationId relocation;
    DataProtection protection;
    Secret psk;
  };

  mutable std::mutex mutex_;  // guards lanes_
  std::map<std::string, Expected> lanes_;
};

}  // namespace vmhop
