#include "tests/lab/throughput.h"

#include <poll.h>

#include <algorithm>
#include <sstream>

namespace vmhop::lab {
namespace {

// Of the calling thread's namespace: /proc/net would be the process's.
std::optional<uint64_t> received_bytes(const std::string& interface) {
  auto text = read_file("/proc/thread-self/net/dev", size_t{1} << 20);
  if (!text) return std::nullopt;
  size_t at = text->find(interface + ":");
  if (at == std::string::npos) return std::nullopt;
  std::istringstream numbers(text->substr(at + interface.size() + 1, 64));
  uint64_t bytes = 0;
  if (!(numbers >> bytes)) return std::nullopt;
  return bytes;
}

}  // namespace

Result<std::unique_ptr<Throughput>> Throughput::start(const Namespace& where,
                                                      std::string interface) {
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<Throughput> throughput(new Throughput(std::move(interface), std::move(stop)));
  throughput->thread_ = std::thread([raw = throughput.get(), &where] {
    if (where.enter()) raw->sample();
  });
  return throughput;
}

Throughput::~Throughput() {
  stop_.notify();
  thread_.join();
}

void Throughput::sample() {
  auto next = Clock::now();
  for (;;) {
    if (auto bytes = received_bytes(interface_)) {
      std::lock_guard lock(mutex_);
      samples_.push_back({Clock::now(), *bytes});
    }
    next = std::max(next + kInterval, Clock::now());
    auto stopped = wait_fd(stop_.fd(), POLLIN, milliseconds_until(next));
    if (!stopped || *stopped != 0) return;
  }
}

double Throughput::received_at(Clock::time_point at) const {
  auto after = std::lower_bound(samples_.begin(), samples_.end(), at,
                                [](const Sample& sample, auto time) { return sample.at < time; });
  if (after == samples_.end()) return static_cast<double>(samples_.back().received);
  if (after == samples_.begin()) return static_cast<double>(after->received);
  auto before = std::prev(after);
  double part = seconds_between(before->at, at) / seconds_between(before->at, after->at);
  return static_cast<double>(before->received) +
         part * static_cast<double>(after->received - before->received);
}

double Throughput::bytes_per_second(Clock::time_point from, Clock::time_point to) const {
  std::lock_guard lock(mutex_);
  if (samples_.empty() || to <= from) return 0;
  return (received_at(to) - received_at(from)) / seconds_between(from, to);
}

std::optional<Throughput::Span> Throughput::busy_span(Clock::time_point from, Clock::time_point to,
                                                      double bytes) const {
  std::lock_guard lock(mutex_);
  std::optional<Span> span;
  for (size_t i = 1; i < samples_.size(); ++i) {
    const Sample& before = samples_[i - 1];
    const Sample& sample = samples_[i];
    if (before.at < from || sample.at > to) continue;
    if (static_cast<double>(sample.received - before.received) <= bytes) continue;
    if (!span) span = Span{before.at, sample.at};
    span->to = sample.at;
  }
  return span;
}

}  // namespace vmhop::lab
