// The terminal that vmhop shares with QEMU or draws its progress on.
#pragma once

#include <termios.h>
#include <unistd.h>

#include <optional>

namespace vmhop {

// QEMU puts the terminal into raw mode; one that is killed cannot put it back.
class TerminalGuard {
 public:
  TerminalGuard() {
    termios state{};
    if (::tcgetattr(STDIN_FILENO, &state) == 0) saved_ = state;
  }
  ~TerminalGuard() {
    if (saved_) ::tcsetattr(STDIN_FILENO, TCSANOW, &*saved_);
  }
  TerminalGuard(const TerminalGuard&) = delete;
  TerminalGuard& operator=(const TerminalGuard&) = delete;

 private:
  std::optional<termios> saved_;
};

}  // namespace vmhop
