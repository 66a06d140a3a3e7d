#include "tests/lab/http_probe.h"

#include <arpa/inet.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <map>

#include "tests/lab/http_connection.h"

namespace vmhop::lab {
namespace {

constexpr size_t kLargestFile = size_t{4} << 20;
constexpr size_t kMostComplaints = 10;

struct Asker {
  HttpConnection connection;
  std::vector<std::string> files;
  size_t next = 0;
  Clock::time_point resume_at{};

  const std::string& file() const { return files[next % files.size()]; }
};

}  // namespace

struct HttpProbe::Shared {
  ProbeSpec spec;
  std::map<std::string, std::string> bodies;

  mutable std::mutex mutex;  // guards what follows
  mutable std::condition_variable answered;
  std::vector<ProbeAnswer> answers;
  ProbeReport report;

  void note_answer(const ProbeAnswer& answer) {
    {
      std::lock_guard lock(mutex);
      answers.push_back(answer);
      ++report.requests;
    }
    answered.notify_all();
  }
  void note_failure(const std::string& file, const std::string& cause) {
    std::lock_guard lock(mutex);
    ++report.requests;
    ++report.failed;
    if (report.complaints.size() < kMostComplaints)
      report.complaints.push_back(file + ": " + cause);
  }

  void run(int stop_fd);
  void serve(Asker& asker, unsigned number, short events);
};

Result<std::unique_ptr<HttpProbe>> HttpProbe::start(const Namespace& where, const ProbeSpec& spec) {
  auto shared = std::make_shared<Shared>();
  shared->spec = spec;
  for (const auto& files : spec.connections) {
    for (const std::string& file : files) {
      VMHOP_ASSIGN(shared->bodies[file], read_file(spec.www + "/" + file, kLargestFile));
    }
  }
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<HttpProbe> probe(new HttpProbe(shared, std::move(stop)));
  probe->thread_ = std::thread([shared, &where, stop_fd = probe->stop_.fd()] {
    if (auto entered = where.enter(); !entered) {
      shared->note_failure("all", entered.error().message());
      return;
    }
    shared->run(stop_fd);
  });
  return probe;
}

HttpProbe::~HttpProbe() {
  stop_.notify();
  thread_.join();
}

void HttpProbe::Shared::run(int stop_fd) {
  sockaddr_in server{};
  server.sin_family = AF_INET;
  server.sin_port = htons(spec.port);
  ::inet_pton(AF_INET, spec.address.c_str(), &server.sin_addr);
  std::vector<Asker> askers;
  for (const auto& files : spec.connections)
    askers.push_back({HttpConnection(server), files});

  for (;;) {
    auto wake_at = Clock::now() + std::chrono::seconds(1);
    std::vector<pollfd> polled = {{stop_fd, POLLIN, 0}};
    for (Asker& asker : askers) {
      if (!asker.connection.waiting() && asker.resume_at <= Clock::now()) {
        if (auto asked = asker.connection.ask(asker.file()); !asked) {
          note_failure(asker.file(), asked.error().message());
          asker.connection.close();
          asker.resume_at = Clock::now() + std::chrono::milliseconds(100);
        }
      }
      bool waiting = asker.connection.waiting();
      if (!waiting) wake_at = std::min(wake_at, asker.resume_at);
      polled.push_back({waiting ? asker.connection.fd() : -1, asker.connection.events(), 0});
    }
    if (::poll(polled.data(), polled.size(), milliseconds_until(wake_at)) < 0 && errno != EINTR) {
      return;
    }
    if (polled[0].revents != 0) return;
    for (unsigned n = 0; n < askers.size(); ++n)
      serve(askers[n], n, polled[n + 1].revents);
  }
}

void HttpProbe::Shared::serve(Asker& asker, unsigned number, short events) {
  HttpConnection& connection = asker.connection;
  if (!connection.waiting()) return;
  auto now = Clock::now();
  auto asked = connection.asked();
  Result<std::optional<std::string>> answer = std::optional<std::string>();
  if (events != 0) {
    answer = connection.advance();
  } else if (now - asked > spec.give_up_after) {
    answer = errorf("no answer in {} s", spec.give_up_after.count());
  }
  if (answer && !answer->has_value()) return;
  if (!answer) {
    note_failure(asker.file(), answer.error().message());
    connection.close();
  } else if (**answer != bodies[asker.file()]) {
    note_failure(asker.file(), "the body is wrong");
  } else {
    note_answer({asked, now, number});
  }
  ++asker.next;
  asker.resume_at = now + spec.pause;
}

ProbeReport HttpProbe::report() const {
  std::lock_guard lock(shared_->mutex);
  return shared_->report;
}

uint64_t HttpProbe::answers() const {
  std::lock_guard lock(shared_->mutex);
  return shared_->answers.size();
}

Clock::duration HttpProbe::longest_gap(Clock::time_point from, Clock::time_point to) const {
  std::lock_guard lock(shared_->mutex);
  Clock::duration longest{};
  std::map<unsigned, Clock::time_point> last;
  for (const ProbeAnswer& answer : shared_->answers) {
    auto [before, first] = last.try_emplace(answer.connection, answer.answered);
    if (!first && answer.answered >= from && before->second <= to) {
      longest = std::max(longest, answer.answered - before->second);
    }
    before->second = answer.answered;
  }
  // A connection that has not been answered since.
  for (const auto& [connection, at] : last) {
    if (at < from) longest = std::max(longest, to - at);
  }
  return longest;
}

Status HttpProbe::wait_for_answers(uint64_t more, Deadline deadline) const {
  std::unique_lock lock(shared_->mutex);
  uint64_t wanted = shared_->answers.size() + more;
  if (shared_->answered.wait_until(lock, deadline,
                                   [&] { return shared_->answers.size() >= wanted; })) {
    return ok_status();
  }
  std::string cause =
      shared_->report.complaints.empty() ? "" : ": " + shared_->report.complaints[0];
  return Error(fmt::format("the guest's web server gave {} of {} answers{}",
                           more - (wanted - shared_->answers.size()), more, cause),
               ErrorKind::kTimedOut);
}

}  // namespace vmhop::lab
