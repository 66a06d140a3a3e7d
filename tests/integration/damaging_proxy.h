// A network that changes bytes: stands between a source and its destination, and damages what plain
// lanes carry.
#pragma once

#include <array>
#include <atomic>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "backend/base/fd.h"
#include "backend/session/tcp.h"
#include "tests/lab/namespace.h"

namespace vmhop::lab {

class DamagingProxy {
 public:
  enum class Damage {
    kSomePages,      // kPages of them, once each
    kOnePageAlways,  // the same one, whenever it comes
  };
  // In the source's namespace; passes everything on to `destination`.
  static Result<std::unique_ptr<DamagingProxy>> start(const Namespace& where,
                                                      const std::string& destination,
                                                      Damage damage = Damage::kSomePages);
  ~DamagingProxy();

  // Where the source finds the destination now.
  std::string endpoint() const { return fmt::format("127.0.0.1:{}", port_); }
  // Bulk replies are held back from the first one on, until open().
  void open();
  // How often a page was damaged, a bit in it; of some pages at most kPages times.
  unsigned damaged() const { return damaged_; }
  // It damages nothing from now on, and all its connections end. New ones are served.
  void mend();
  static constexpr unsigned kPages = 3;

 private:
  DamagingProxy(UniqueFd listening, uint16_t port, HostPort destination, Damage damage)
      : listening_(std::move(listening)),
        port_(port),
        destination_(std::move(destination)),
        damage_(damage) {}

  void serve(const Namespace& where);
  void pass(int from, int to, bool from_source);
  void damage(std::span<std::byte> bytes);
  void damage_some(std::span<std::byte> bytes);
  void damage_the_one(std::span<std::byte> bytes);

  UniqueFd listening_;
  uint16_t port_;
  HostPort destination_;
  // What a page is known by, wherever it comes from.
  using Mark = std::array<std::byte, 64>;

  Damage damage_;
  std::atomic<bool> open_{false};
  std::atomic<bool> mended_{false};
  std::mutex mark_mutex_;  // guards mark_
  std::optional<Mark> mark_;
  std::atomic<unsigned> damaged_{0};
  std::mutex mutex_;  // guards the connections, and that they are not added to once it ends
  bool ending_ = false;
  std::list<UniqueFd> sockets_;
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace vmhop::lab
