#include "backend/session/lane.h"

#include <fmt/format.h>

#include <utility>

#include "backend/session/deadline.h"
#include "backend/session/plain_lane.h"
#include "backend/session/tls.h"

namespace vmhop {
namespace {

Result<std::unique_ptr<ByteStream>> authenticate(UniqueFd socket, const LaneId& id,
                                                 const Secret& psk, DataProtection protection,
                                                 int timeout_ms) {
  if (protection == DataProtection::kEncrypted) {
    VMHOP_ASSIGN(auto stream, connect_tls(std::move(socket), to_identity(id), psk, timeout_ms));
    return std::unique_ptr<ByteStream>(std::move(stream));
  }
  VMHOP_ASSIGN(auto stream, make_plain_stream(std::move(socket)));
  Status proved = prove_plain_lane(*stream, id, psk, timeout_ms);
  if (!proved && proved.error().kind() == ErrorKind::kClosed) {
    return refusedf("the destination does not want this lane; its log says why");
  }
  if (!proved) return proved.error();
  return stream;
}

}  // namespace

Result<std::unique_ptr<ByteStream>> dial_lane(const HostPort& destination, const LaneId& id,
                                              const Secret& lane_secret, DataProtection protection,
                                              int timeout_ms) {
  Deadline deadline(timeout_ms);
  VMHOP_ASSIGN(Secret psk, lane_psk(lane_secret, id));
  VMHOP_ASSIGN(UniqueFd socket, connect_tcp(destination, timeout_ms));
  auto stream = authenticate(std::move(socket), id, psk, protection, deadline.left_ms());
  if (!stream) {
    return stream.error().with(
        fmt::format("the data lane {} to {}", to_identity(id), destination.to_string()));
  }
  return stream;
}

}  // namespace vmhop
