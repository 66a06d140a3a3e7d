// A network that changes bytes: stands between a source and its destination, and damages what plain
// bulk lanes carry.
#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "backend/base/fd.h"
#include "backend/session/tcp.h"
#include "tests/lab/namespace.h"

namespace vmhop::lab {

class DamagingProxy {
 public:
  // In the source's namespace; passes everything on to `destination`.
  static Result<std::unique_ptr<DamagingProxy>> start(const Namespace& where,
                                                      const std::string& destination);
  ~DamagingProxy();

  // Where the source finds the destination now.
  std::string endpoint() const { return fmt::format("127.0.0.1:{}", port_); }
  // Bulk replies are held back from the first one on, until open().
  void open();
  // How many pages were damaged, a bit in each, at most kPages.
  unsigned damaged() const { return damaged_; }
  static constexpr unsigned kPages = 3;

 private:
  DamagingProxy(UniqueFd listening, uint16_t port, HostPort destination)
      : listening_(std::move(listening)), port_(port), destination_(std::move(destination)) {}

  void serve(const Namespace& where);
  void pass(int from, int to, bool from_source);
  void damage(std::span<std::byte> bytes);

  UniqueFd listening_;
  uint16_t port_;
  HostPort destination_;
  std::atomic<bool> open_{false};
  std::atomic<unsigned> damaged_{0};
  std::mutex mutex_;  // guards the connections, and that they are not added to once it ends
  bool ending_ = false;
  std::list<UniqueFd> sockets_;
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace vmhop::lab
