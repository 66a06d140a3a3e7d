#include "cli/receive_request.h"

#include <openssl/crypto.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <span>

#include "backend/base/fd.h"
#include "backend/base/json_text.h"
#include "cli/json_access.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr std::string_view kGreeting = "vmhop-receive ";
constexpr unsigned kVersion = 1;
constexpr size_t kMaxHeader = 64;
// What is asked for was sent at once.
constexpr int kReadTimeoutMs = 30'000;

Error no_request() {
  return refusedf(
      "this is not a request of `vmhop relocate`, which alone starts this command: use `vmhop "
      "receive`");
}

Status read_exactly(int fd, std::span<std::byte> into) {
  while (!into.empty()) {
    VMHOP_ASSIGN(short events, wait_fd(fd, POLLIN, kReadTimeoutMs));
    if (events == 0) return Error("no request came", ErrorKind::kTimedOut);
    ssize_t got = ::read(fd, into.data(), into.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno("reading a request", errno);
    if (got == 0) return Error("whoever asked has gone", ErrorKind::kClosed);
    into = into.subspan(static_cast<size_t>(got));
  }
  return ok_status();
}

// Byte by byte: what follows it must stay unread.
Result<std::string> read_header(int fd) {
  std::string header;
  for (;;) {
    char c = 0;
    VMHOP_TRY(read_exactly(fd, std::as_writable_bytes(std::span(&c, 1))));
    if (c == '\n') return header;
    header += c;
    if (header.size() > kMaxHeader) break;
  }
  return no_request();
}

bool read_number(std::string_view& text, size_t& number) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (text.starts_with(' ')) text.remove_prefix(1);
  return true;
}

// The size of what follows.
Result<size_t> parse_header(std::string_view header) {
  size_t version = 0;
  size_t size = 0;
  std::string_view rest = header;
  bool ours = rest.starts_with(kGreeting);
  if (ours) rest.remove_prefix(kGreeting.size());
  if (!ours || !read_number(rest, version)) return no_request();
  if (version != kVersion) {
    return refusedf(
        "the source asks in version {} of this protocol and vmhop {} here understands {}: install "
        "the same vmhop on both hosts",
        version, VMHOP_VERSION, kVersion);
  }
  bool complete = read_number(rest, size) && rest.empty();
  if (!complete || size > kMaxReceiveRequest) return no_request();
  return size;
}

Result<ReceiveRequest> parse_request(const std::string& text) {
  json body = parse_json(text);
  ReceiveRequest request;
  request.vm = text_of(body, "vm");
  for (const json& argument : member_of(body, "qemu")) {
    if (!argument.is_string()) return refusedf("an argument of QEMU is no text");
    request.qemu.push_back(argument.get<std::string>());
  }
  if (request.vm.empty() || request.qemu.empty()) {
    return refusedf("the request names no VM or no QEMU");
  }
  request.directory = text_of(body, "directory");
  uint64_t port = number_of(body, "port");
  if (port > UINT16_MAX) return refusedf("{} is no port", port);
  request.port = static_cast<uint16_t>(port);
  try {
    request.transport = body.value("transport", TransportPolicy());
  } catch (const json::exception&) {
    return refusedf("the request's transport is not understood");
  }
  // A day at most: no number of milliseconds that a clock cannot have.
  uint64_t lease = number_of(body, "lease_ms", static_cast<uint64_t>(request.lease.count()));
  request.lease = std::chrono::milliseconds(std::min<uint64_t>(lease, 86'400'000));
  return request;
}

}  // namespace

Status send_receive_request(int fd, const ReceiveRequest& request, const Secret& key) {
  json body = {{"vm", request.vm},
               {"qemu", request.qemu},
               {"directory", request.directory},
               {"port", request.port},
               {"transport", request.transport},
               {"lease_ms", request.lease.count()}};
  std::string text = body.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > kMaxReceiveRequest) {
    return refusedf("QEMU's command line is too long to be sent: {} bytes", text.size());
  }
  text.insert(0, fmt::format("{}{} {}\n", kGreeting, kVersion, text.size()));
  VMHOP_TRY(write_all(fd, std::as_bytes(std::span(text))));
  return write_all(fd, key.bytes());
}

Result<ReceivedRequest> read_receive_request(int fd) {
  VMHOP_ASSIGN(std::string header, read_header(fd));
  VMHOP_ASSIGN(size_t size, parse_header(header));
  std::string text(size, '\0');
  VMHOP_TRY(read_exactly(fd, std::as_writable_bytes(std::span(text))));
  VMHOP_ASSIGN(ReceiveRequest request, parse_request(text));
  std::array<std::byte, Secret::kSize> bytes{};
  Status read = read_exactly(fd, bytes);
  Secret key = Secret::from_bytes(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  if (!read) return read.error();
  return ReceivedRequest{std::move(request), std::move(key)};
}

}  // namespace vmhop
