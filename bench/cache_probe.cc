#include "bench/cache_probe.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;

constexpr uint16_t kPort = 6379;
constexpr auto kPause = 2ms;
constexpr auto kGiveUpAfter = 30s;

Result<UniqueFd> connect_to(const std::string& address) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno("socket", errno);
  timeval patience{10, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  sockaddr_in server{};
  server.sin_family = AF_INET;
  server.sin_port = htons(kPort);
  ::inet_pton(AF_INET, address.c_str(), &server.sin_addr);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&server), sizeof server) != 0) {
    return Error::from_errno("connecting to the guest's redis", errno);
  }
  return socket;
}

// As tests/guests/linux/init makes it.
std::string first_value(uint64_t number) {
  std::string value;
  while (value.size() < CacheContents::kValueBytes)
    value += fmt::format("{:010}", number);
  return value;
}

}  // namespace

std::string overwritten_value() {
  return std::string(CacheContents::kValueBytes, 'x');
}

Result<std::unique_ptr<CacheProbe>> CacheProbe::start(const lab::Namespace& where,
                                                      const std::string& address,
                                                      const CacheContents& contents) {
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<CacheProbe> probe(new CacheProbe(contents, std::move(stop)));
  probe->thread_ = std::thread([raw = probe.get(), &where, address] {
    Status ended = where.enter();
    if (ended) ended = raw->ask_for_ever(address);
    std::lock_guard lock(raw->mutex_);
    raw->failure_ = ended;
  });
  return probe;
}

CacheProbe::~CacheProbe() {
  stop_.notify();
  thread_.join();
}

Status CacheProbe::ask_for_ever(const std::string& address) {
  VMHOP_ASSIGN(UniqueFd socket, connect_to(address));
  // The same in each run.
  std::mt19937_64 random(1);  // NOLINT(cert-msc51-cpp,bugprone-random-generator-seed)
  for (;;) {
    VMHOP_TRY(ask(socket.get(), random() % contents_.values));
    VMHOP_ASSIGN(bool stopped, stopped_within(kPause));
    if (stopped) return ok_status();
  }
}

Result<bool> CacheProbe::stopped_within(std::chrono::milliseconds span) const {
  VMHOP_ASSIGN(short events, wait_fd(stop_.fd(), POLLIN, static_cast<int>(span.count())));
  return events != 0;
}

Status CacheProbe::ask(int socket, uint64_t number) {
  std::string request = fmt::format("GET key:{:012}\r\n", number);
  VMHOP_TRY(write_all(socket, std::as_bytes(std::span(request))));
  const std::string head = fmt::format("${}\r\n", CacheContents::kValueBytes);
  const size_t whole = head.size() + CacheContents::kValueBytes + 2;
  auto give_up = lab::within(kGiveUpAfter);
  std::string answer;
  while (answer.size() < whole) {
    std::array<pollfd, 2> polled{{{socket, POLLIN, 0}, {stop_.fd(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), lab::milliseconds_until(give_up)) < 0 &&
        errno != EINTR) {
      return Error::from_errno("poll", errno);
    }
    if (polled[1].revents != 0) return ok_status();
    if (Clock::now() >= give_up)
      return errorf("redis gave no answer in {} s", kGiveUpAfter.count());
    if (polled[0].revents == 0) continue;
    std::array<char, 4096> buffer{};
    ssize_t got = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (got < 0) return Error::from_errno("hearing from the guest's redis", errno);
    if (got == 0) return Error("the guest's redis closed a connection", ErrorKind::kClosed);
    answer.append(buffer.data(), static_cast<size_t>(got));
    // An error or a missing value is shorter, and would be waited for until the time is up.
    if (!answer.starts_with(head.substr(0, answer.size()))) break;
  }
  if (answer != head + first_value(number) + "\r\n" &&
      answer != head + overwritten_value() + "\r\n")
    return errorf("redis has for key {}: {}", number, answer.substr(0, 80));
  std::lock_guard lock(mutex_);
  answered_.push_back(Clock::now());
  return ok_status();
}

Status CacheProbe::wait_for_answers(size_t count, lab::Deadline deadline) const {
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (!failure_) return failure_;
      if (answered_.size() >= count) return ok_status();
    }
    if (Clock::now() >= deadline) return Error("redis does not answer", ErrorKind::kTimedOut);
    std::this_thread::sleep_for(20ms);
  }
}

Clock::duration CacheProbe::longest_gap(Clock::time_point from, Clock::time_point to) const {
  std::lock_guard lock(mutex_);
  Clock::duration longest{};
  for (size_t n = 1; n < answered_.size(); ++n) {
    if (answered_[n] < from || answered_[n - 1] > to) continue;
    longest = std::max(longest, answered_[n] - answered_[n - 1]);
  }
  // None has come since.
  if (!answered_.empty() && answered_.back() < from)
    longest = std::max(longest, to - answered_.back());
  return longest;
}

Status CacheProbe::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace vmhop::bench
