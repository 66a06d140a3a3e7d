// One local connection to QEMU's migration socket, relayed through the session: QEMU opens no port.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "backend/base/event_loop.h"
#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

// Belongs to the loop's thread; lives no longer than the loop.
class StateRelay {
 public:
  // Largest piece handed to `on_bytes`.
  static constexpr size_t kPiece = 64 * 1024;

  // Takes a connected socket. `on_bytes` gets what QEMU wrote; an empty piece is the end of its
  // stream. Errors count as the end: QEMU itself knows more about their cause.
  static Result<std::unique_ptr<StateRelay>> start(
      EventLoop& loop, UniqueFd socket, std::function<void(std::span<const std::byte>)> on_bytes);
  ~StateRelay();

  // Gives bytes to QEMU; keeps what the socket does not take at once. An empty piece ends the
  // stream towards QEMU.
  void write(std::span<const std::byte> bytes);
  // Back-pressure: no more on_bytes until resumed.
  void pause();
  void resume();

 private:
  StateRelay(EventLoop& loop, UniqueFd socket,
             std::function<void(std::span<const std::byte>)> on_bytes)
      : loop_(loop), socket_(std::move(socket)), on_bytes_(std::move(on_bytes)) {}
  void serve(short events);
  void read_some();
  void flush();
  void update_events();

  EventLoop& loop_;
  UniqueFd socket_;
  std::function<void(std::span<const std::byte>)> on_bytes_;
  std::vector<std::byte> unsent_;
  bool paused_ = false;
  short watched_ = 0;
  bool read_ended_ = false;
  bool end_wanted_ = false;  // shut down writing once unsent_ is gone
};

}  // namespace vmhop
