#include <fmt/format.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/logging.h"
#include "cli/signals.h"
#include "cli/vm_status.h"
#include "cli/watch_screen.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr int kWatchIntervalMs = 1000;
constexpr const char* kHomeAndClear = "\x1b[H\x1b[J";

std::string as_json(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

// Of the named VM, or of all: nothing when the named one is not there.
std::vector<json> query(const std::string& base, const StatusOptions& options) {
  std::vector<std::string> names = {options.name};
  if (options.name.empty()) names = list_vm_names(base);
  std::vector<json> statuses;
  for (const std::string& name : names) {
    if (auto status = query_vm_status(VmPaths(base, name), name)) {
      statuses.push_back(std::move(*status));
    }
  }
  return statuses;
}

std::string as_text(const std::vector<json>& statuses, const StatusOptions& options) {
  bool one = !options.name.empty();
  if (options.json) return as_json(one ? statuses.front() : json(statuses));
  if (one) return status_details(statuses.front());
  return statuses.empty() ? "No VM runs here.\n" : status_table(statuses);
}

// A screen is drawn over and over only where that can be seen: not in a file, nor on a terminal
// that takes no orders.
bool can_redraw(const StatusOptions& options) {
  const char* terminal = std::getenv("TERM");
  bool orders = terminal != nullptr && std::string_view(terminal) != "dumb";
  return ::isatty(STDOUT_FILENO) != 0 && orders && !options.json;
}

ScreenSize screen_size() {
  winsize window{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) return {};
  return {window.ws_col, window.ws_row};
}

// SIGWINCH as a descriptor.
Result<UniqueFd> window_changes() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGWINCH);
  if (int failed = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); failed != 0) {
    return Error::from_errno("blocking SIGWINCH", failed);
  }
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return Error::from_errno("signalfd", errno);
  return fd;
}

enum class Woken { kByTime, kByWindow, kBySignal };

Result<Woken> wait_for_next(const EndSignals& signals, const UniqueFd& window) {
  std::array<pollfd, 2> polled{{{signals.fd(), POLLIN, 0}, {window.get(), POLLIN, 0}}};
  if (::poll(polled.data(), polled.size(), kWatchIntervalMs) < 0 && errno != EINTR) {
    return Error::from_errno("poll", errno);
  }
  if (polled[0].revents != 0) return Woken::kBySignal;
  if (polled[1].revents == 0) return Woken::kByTime;
  signalfd_siginfo seen{};
  while (::read(window.get(), &seen, sizeof seen) > 0) {
  }
  return Woken::kByWindow;
}

Result<int> watch(const std::string& base, const StatusOptions& options) {
  VMHOP_ASSIGN(EndSignals signals, EndSignals::block());
  VMHOP_ASSIGN(UniqueFd window, window_changes());
  bool redraw = can_redraw(options);
  WatchScreen screen;
  Woken woken = Woken::kByTime;
  while (woken != Woken::kBySignal) {
    if (woken == Woken::kByTime) {
      std::vector<json> statuses = query(base, options);
      if (statuses.empty() && !options.name.empty()) {
        tell_user(options.name + " is no longer on this host");
        return kExitDone;
      }
      if (!redraw) fmt::print("{}", as_text(statuses, options));
      screen.take(std::move(statuses), WatchScreen::Clock::now());
    }
    if (redraw) fmt::print("{}{}", kHomeAndClear, screen.draw(screen_size()));
    if (std::fflush(stdout) != 0) return kExitDone;
    VMHOP_ASSIGN(woken, wait_for_next(signals, window));
  }
  // The terminal has shown "^C" there; what comes next begins a line of its own.
  if (redraw) fmt::print("\n");
  return kExitDone;
}

}  // namespace

Result<int> status(const StatusOptions& options) {
  VMHOP_ASSIGN(std::string base, runtime_base());
  if (!options.name.empty()) VMHOP_TRY(check_vm_name(base, options.name));
  std::vector<json> statuses = query(base, options);
  if (statuses.empty() && !options.name.empty()) {
    return errorf("there is no VM named {} on this host. `vmhop status` lists them", options.name);
  }
  if (options.watch) return watch(base, options);
  fmt::print("{}", as_text(statuses, options));
  return kExitDone;
}

}  // namespace vmhop
