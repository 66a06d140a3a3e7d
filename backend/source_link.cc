#include "backend/source_link.h"

#include "backend/session/lane.h"
#include "backend/session/tls.h"

namespace vmhop {
namespace {

constexpr int kConnectTimeoutMs = 5000;
constexpr int kAnswerTimeoutMs = 5000;

Result<Welcome> say_hello(MessageStream& session, const Hello& hello) {
  VMHOP_TRY(session.send(hello));
  VMHOP_ASSIGN(Message answer, session.receive_blocking(kAnswerTimeoutMs));
  if (const auto* refuse = std::get_if<Refuse>(&answer)) {
    return refusedf("the destination refused: {}", refuse->reason);
  }
  const auto* welcome = std::get_if<Welcome>(&answer);
  if (welcome == nullptr) {
    return errorf("the destination answered with {} instead of a welcome", message_name(answer));
  }
  if (welcome->version != kProtocolVersion) {
    return refusedf(
        "the destination speaks version {} of the protocol, this side version {}: install the same "
        "vmhop on both hosts",
        welcome->version, kProtocolVersion);
  }
  return *welcome;
}

}  // namespace

Result<SourceLink> establish_link(const HostPort& destination, const Secret& key, Hello hello) {
  VMHOP_TRY(fill_random(std::as_writable_bytes(std::span(&hello.lane_generation, 1))));
  SessionId id{hello.vm};
  VMHOP_ASSIGN(Secret psk, session_psk(key, id));
  VMHOP_ASSIGN(UniqueFd socket, connect_tcp(destination, kConnectTimeoutMs));
  VMHOP_ASSIGN(auto stream,
               connect_tls(std::move(socket), to_identity(id), psk, kConnectTimeoutMs));
  VMHOP_ASSIGN(Secret lane_secret, stream->export_secret(kLaneSecretLabel));

  SourceLink link;
  link.session = MessageStream::create(std::move(stream));
  VMHOP_ASSIGN(link.welcome, say_hello(*link.session, hello));
  for (const LaneId& lane : make_lane_ids(hello.relocation, hello.fault_lanes, hello.bulk_lanes,
                                          hello.lane_generation)) {
    VMHOP_ASSIGN(auto lane_stream,
                 dial_lane(destination, lane, lane_secret, hello.data, kConnectTimeoutMs));
    link.lanes.push_back({lane.kind, std::move(lane_stream)});
  }
  return link;
}

}  // namespace vmhop
