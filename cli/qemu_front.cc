#include "cli/qemu_front.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <vector>

#include "cli/child_process.h"

namespace vmhop {
namespace {

// QEMU answers within 50 ms, on a host that is not emulated itself.
constexpr std::chrono::seconds kAnswerTimeout{60};
constexpr size_t kLongestAnswer = 64 << 10;

// All that a program prints.
Result<std::string> output_of(std::vector<std::string> argv) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("pipe", errno);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  ChildSpec spec;
  spec.program = argv[0];
  spec.argv = std::move(argv);
  spec.standard_output = write_end.get();
  VMHOP_ASSIGN(auto child, ChildProcess::spawn(spec));
  write_end.reset();
  std::string text;
  auto deadline = std::chrono::steady_clock::now() + kAnswerTimeout;
  std::array<char, 4096> chunk;
  while (text.size() < kLongestAnswer) {
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    auto ready =
        wait_fd(read_end.get(), POLLIN, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (!ready || *ready == 0) break;
    ssize_t got = ::read(read_end.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(chunk.data(), static_cast<size_t>(got));
  }
  auto ended = child->wait(std::chrono::seconds(1));
  if (!ended) child->kill_and_reap();
  return text;
}

Result<bool> knows_the_object(const std::string& program) {
  VMHOP_ASSIGN(std::string help, output_of({program, "-object", "help"}));
  return help.find("memory-backend-postcopy") != std::string::npos;
}

}  // namespace

const char* front_name(Front front) {
  return front == Front::kObject ? "object" : "preload";
}

Result<Front> choose_front(std::string_view choice, const std::string& program) {
  if (choice == "preload") return Front::kPreload;
  VMHOP_ASSIGN(bool knows_it, knows_the_object(program));
  if (choice == "object" && !knows_it) {
    return refusedf(
        "{} has no memory-backend-postcopy (-object help lists what it has): build one with "
        "vmhop's patches (docs/qemu.md), or leave --front out",
        program);
  }
  return knows_it ? Front::kObject : Front::kPreload;
}

}  // namespace vmhop
