// The destination's one TCP port: sessions and data lanes arrive here, prove who they are, and are
// handed on.
//
// One thread serves the port and every handshake under way, none of which can hold up another: all
// are non-blocking, each has a deadline, and when kMaxHandshakes are under way one makes room: the
// oldest of the address that has the most of them, so that who floods the port from one address
// drives out nobody but itself.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <variant>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "backend/session/byte_stream.h"
#include "backend/session/credentials.h"
#include "backend/session/identity.h"
#include "backend/session/tcp.h"
#include "backend/session/tls.h"

namespace vmhop {

// A source that has the key and wants to talk about `vm`, or one with a certificate: its VM is
// known by Hello alone. Whether that VM is expected here is for the session to say.
struct AcceptedSession {
  std::string vm;    // empty by certificate
  std::string peer;  // its address, for messages
  std::unique_ptr<TlsStream> stream;
};
// A lane that was expected, under the protection that was agreed.
struct AcceptedLane {
  LaneId id;
  std::string peer;
  std::unique_ptr<ByteStream> stream;
};
using AcceptedConnection = std::variant<AcceptedSession, AcceptedLane>;

class Acceptor {
 public:
  static constexpr size_t kMaxHandshakes = 64;

  // Called in the acceptor's thread, which serves nobody else meanwhile: hand the connection to
  // its owner (EventLoop::post()) and return. Must not destroy the Acceptor.
  using Callback = std::function<void(AcceptedConnection)>;

  struct Options {
    int handshake_timeout_ms = 5000;
    size_t max_handshakes = kMaxHandshakes;
  };

  // Serves `listening` (see listen_tcp()) from now on.
  static Result<std::unique_ptr<Acceptor>> start(UniqueFd listening, const Credentials& credentials,
                                                 Callback callback, Options options);
  static Result<std::unique_ptr<Acceptor>> start(UniqueFd listening, const Credentials& credentials,
                                                 Callback callback) {
    return start(std::move(listening), credentials, std::move(callback), Options());
  }
  // Drops the handshakes under way and joins the thread; no callback runs afterwards.
  virtual ~Acceptor() = default;

  virtual uint16_t port() const = 0;

  // From any thread. Welcomes each of `lanes` once, and only under `protection`; to be called
  // before the source learns that it may dial them.
  virtual Status expect_lanes(std::span<const LaneId> lanes, const Secret& lane_secret,
                              DataProtection protection) = 0;
  // From any thread. Those of a relocation that have not come are not welcome any more.
  virtual void forget_lanes(const RelocationId& relocation) = 0;
};

}  // namespace vmhop
