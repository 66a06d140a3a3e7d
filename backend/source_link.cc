#include "backend/source_link.h"

#include <algorithm>
#include <chrono>

#include "backend/session/lane.h"
#include "backend/session/tls.h"

namespace vmhop {
namespace {

constexpr int kConnectTimeoutMs = 5000;
constexpr int kAnswerTimeoutMs = 5000;
// Its own attempts end after five seconds.
constexpr int kRdmaAnswerTimeoutMs = 8000;
constexpr std::chrono::milliseconds kRdmaConnectTimeout{2000};

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

// After a lost link the destination may repeat its outcome first.
Result<RdmaAnswer> await_answer(SourceLink& link) {
  auto deadline =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(kRdmaAnswerTimeoutMs);
  for (;;) {
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    VMHOP_ASSIGN(Message message, link.session->receive_blocking(
                                      static_cast<int>(std::max<int64_t>(0, left.count()))));
    if (const auto* answer = std::get_if<RdmaAnswer>(&message)) return *answer;
    if (const auto* abort = std::get_if<Abort>(&message)) {
      return errorf("the destination gave up: {}", abort->reason);
    }
    link.early.push_back(std::move(message));
  }
}

// Errors are of the session; that RDMA does not work is no error here.
Status offer_rdma(SourceLink& link, const Hello& hello, MemoryExport& memory) {
  if (!link.welcome.rdma) {
    link.rdma_detail = link.welcome.rdma_reason;
    return ok_status();
  }
  auto offer =
      memory.offer(size_t{hello.fault_lanes} + hello.bulk_lanes, local_address(link.session->fd()));
  if (!offer) {
    link.rdma_detail = offer.error().message();
    return ok_status();
  }
  VMHOP_TRY(link.session->send(*offer));
  VMHOP_ASSIGN(RdmaAnswer answer, await_answer(link));
  link.rdma_detail = answer.detail;
  if (!answer.connected) return ok_status();
  if (Status there = memory.await_connections(kRdmaConnectTimeout); !there) {
    link.rdma_detail = there.error().message();
    return ok_status();
  }
  link.rdma = true;
  return ok_status();
}

Result<std::unique_ptr<TlsStream>> authenticate(UniqueFd socket, const std::string& host,
                                                const Credentials& credentials,
                                                const std::string& vm) {
  if (credentials.certificates()) {
    VMHOP_ASSIGN(Certificates parsed, Certificates::parse(credentials.certificates()));
    return connect_tls(std::move(socket), std::make_shared<const Certificates>(std::move(parsed)),
                       host, kConnectTimeoutMs);
  }
  SessionId id{vm};
  VMHOP_ASSIGN(Secret psk, session_psk(*credentials.key(), id));
  return connect_tls(std::move(socket), to_identity(id), psk, kConnectTimeoutMs);
}

}  // namespace

Result<SourceLink> establish_link(const HostPort& destination, const Credentials& credentials,
                                  Hello hello, MemoryExport* memory) {
  VMHOP_TRY(fill_random(std::as_writable_bytes(std::span(&hello.lane_generation, 1))));
  auto socket = connect_tcp(destination, kConnectTimeoutMs);
  // Who was there once may come back: that nobody is has refused nothing.
  if (!socket && hello.resumed) return Error(socket.error().message());
  if (!socket) return socket.error();
  VMHOP_ASSIGN(auto stream,
               authenticate(std::move(*socket), destination.host, credentials, hello.vm));
  VMHOP_ASSIGN(Secret lane_secret, stream->export_secret(kLaneSecretLabel));

  SourceLink link;
  link.session = MessageStream::create(std::move(stream));
  VMHOP_ASSIGN(link.welcome, say_hello(*link.session, hello));
  if (memory != nullptr) VMHOP_TRY(offer_rdma(link, hello, *memory));
  for (const LaneId& lane : make_lane_ids(hello.relocation, hello.fault_lanes, hello.bulk_lanes,
                                          hello.lane_generation)) {
    VMHOP_ASSIGN(auto lane_stream,
                 dial_lane(destination, lane, lane_secret, hello.data, kConnectTimeoutMs));
    link.lanes.push_back({lane.kind, std::move(lane_stream)});
  }
  return link;
}

}  // namespace vmhop
