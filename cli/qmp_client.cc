#include "cli/qmp_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "backend/base/json_text.h"
#include "cli/json_access.h"

namespace vmhop {
namespace {

using nlohmann::json;

// QMP answers are small; the largest (query-qmp-schema) are a few hundred KiB.
constexpr size_t kMaxLine = 16 << 20;
constexpr std::chrono::milliseconds kRetryEvery{5};
// Of events that nobody takes: far more than a relocation has, and a few MiB at most.
constexpr size_t kMaxEvents = 4096;
// That an int64_t of nanoseconds holds: in the year 2262.
constexpr uint64_t kLatestSecond = INT64_MAX / 1'000'000'000 - 1;

int milliseconds_until(QmpClient::Clock::time_point deadline) {
  auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - QmpClient::Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000'000));
}

std::string version_in(const json& greeting) {
  const json& qemu = member_of(member_of(member_of(greeting, "QMP"), "version"), "qemu");
  return fmt::format("{}.{}.{}", number_of(qemu, "major"), number_of(qemu, "minor"),
                     number_of(qemu, "micro"));
}

QmpEvent to_event(const json& line) {
  const json& stamp = member_of(line, "timestamp");
  const json& data = member_of(line, "data");
  uint64_t seconds = std::min(number_of(stamp, "seconds"), kLatestSecond);
  uint64_t microseconds = std::min<uint64_t>(number_of(stamp, "microseconds"), 999'999);
  return {text_of(line, "event"), data.is_object() ? data : json::object(),
          static_cast<int64_t>(seconds * 1'000'000'000 + microseconds * 1000)};
}

}  // namespace

Result<QmpClient> QmpClient::connect(const std::string& path, Clock::time_point deadline,
                                     const std::function<Status()>& still_worth_it) {
  for (;;) {
    auto socket = connect_unix(path, SOCK_STREAM);
    if (socket) {
      auto client = over(std::move(*socket), deadline);
      return client ? std::move(client) : client.error().with("QEMU's monitor " + path);
    }
    if (still_worth_it) VMHOP_TRY(still_worth_it());
    if (socket.error().kind() != ErrorKind::kClosed) return socket.error();
    if (Clock::now() >= deadline) {
      return Error(socket.error().message() + ": QEMU did not open its monitor in time",
                   ErrorKind::kTimedOut);
    }
    std::this_thread::sleep_for(kRetryEvery);
  }
}

Result<QmpClient> QmpClient::over(UniqueFd socket, Clock::time_point deadline) {
  QmpClient client(std::move(socket));
  VMHOP_TRY(set_nonblocking(client.fd()));
  if (auto done = client.negotiate(deadline); !done) return done.error().with("talking to QEMU");
  return client;
}

Status QmpClient::negotiate(Clock::time_point deadline) {
  while (!greeting_)
    VMHOP_TRY(wait_for_input(deadline));
  version_ = version_in(*greeting_);
  auto left = Milliseconds(milliseconds_until(deadline));
  VMHOP_TRY(execute("qmp_capabilities", nullptr, left));
  return ok_status();
}

Result<json> QmpClient::execute(const std::string& command, const json& arguments,
                                Milliseconds timeout) {
  auto deadline = Clock::now() + timeout;
  VMHOP_ASSIGN(uint64_t id, send(command, arguments));
  for (;;) {
    if (auto reply = take_reply(id)) {
      if (!*reply) return reply->error().with("QEMU: " + command);
      return std::move(*reply);
    }
    if (auto waited = wait_for_input(deadline); !waited) {
      if (waited.error().kind() == ErrorKind::kTimedOut) abandoned_.insert(id);
      return waited.error().with("QEMU: " + command);
    }
  }
}

Result<QmpEvent> QmpClient::next_event(Milliseconds timeout) {
  auto deadline = Clock::now() + timeout;
  while (events_.empty())
    VMHOP_TRY(wait_for_input(deadline));
  return *take_event();
}

Result<uint64_t> QmpClient::send(const std::string& command, const json& arguments) {
  uint64_t id = next_id_++;
  json request = {{"execute", command}, {"id", id}};
  if (!arguments.is_null()) request["arguments"] = arguments;
  std::string line = request.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    ssize_t sent = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      VMHOP_TRY(wait_fd(socket_.get(), POLLOUT, -1));
      continue;
    }
    if (sent < 0) {
      return Error(Error::from_errno("sending to QEMU's monitor", errno).message(),
                   ErrorKind::kClosed);
    }
    rest.remove_prefix(static_cast<size_t>(sent));
  }
  return id;
}

Status QmpClient::process_input() {
  return read_available();
}

std::optional<Result<json>> QmpClient::take_reply(uint64_t id) {
  auto it = replies_.find(id);
  if (it == replies_.end()) return std::nullopt;
  auto reply = std::move(it->second);
  replies_.erase(it);
  return reply;
}

std::optional<QmpEvent> QmpClient::take_event() {
  if (events_.empty()) return std::nullopt;
  QmpEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

Status QmpClient::wait_for_input(Clock::time_point deadline) {
  VMHOP_ASSIGN(short ready, wait_fd(socket_.get(), POLLIN, milliseconds_until(deadline)));
  if (ready == 0) return Error("no answer in time", ErrorKind::kTimedOut);
  return read_available();
}

Status QmpClient::read_available() {
  std::array<char, 64 << 10> chunk;
  for (;;) {
    ssize_t got = ::recv(socket_.get(), chunk.data(), chunk.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return ok_status();
    if (got < 0 && errno != ECONNRESET) return Error::from_errno("QEMU's monitor", errno);
    if (got <= 0) return Error("QEMU closed its monitor", ErrorKind::kClosed);
    partial_.append(chunk.data(), static_cast<size_t>(got));
    size_t start = 0;
    for (size_t end = 0; (end = partial_.find('\n', start)) != std::string::npos; start = end + 1)
      accept_line(std::string_view(partial_).substr(start, end - start));
    partial_.erase(0, start);
    if (partial_.size() > kMaxLine) return errorf("an answer of QEMU's is over {} bytes", kMaxLine);
  }
}

void QmpClient::accept_line(std::string_view line) {
  auto body = parse_json(line);
  if (!body.is_object()) return;  // QEMU ends lines with \r\n and sends nothing else
  if (body.contains("event")) {
    if (events_.size() == kMaxEvents) events_.pop_front();
    events_.push_back(to_event(body));
  } else if (body.contains("QMP")) {
    greeting_ = std::move(body);
  } else {
    uint64_t id = number_of(body, "id");
    if (abandoned_.erase(id) != 0) return;
    const json& error = member_of(body, "error");
    if (error.is_object()) {
      replies_.emplace(id, errorf("{} ({})", text_of(error, "desc"), text_of(error, "class")));
    } else {
      replies_.emplace(id, json(member_of(body, "return")));
    }
  }
}

}  // namespace vmhop
