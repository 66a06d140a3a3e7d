// What QEMU says on its monitor: greeting, replies, events. At an empty line, of which QEMU sends
// none, the client does something before the rest arrives. Nothing here waits.
#include <poll.h>
#include <sys/socket.h>

#include "cli/qmp_client.h"
#include "tests/fuzz/fuzz.h"

using namespace vmhop;
using fuzz::must;
using fuzz::require;

namespace {

constexpr std::chrono::milliseconds kNow{0};

std::string_view take_part(std::string_view& rest) {
  size_t end = rest.find("\n\n");
  std::string_view part = end == std::string_view::npos ? rest : rest.substr(0, end + 1);
  rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  return part;
}

// Fails when the socket takes no more: the client reads as much as that at a time.
bool say(const UniqueFd& qemu, std::string_view text) {
  return text.empty() || ::send(qemu.get(), text.data(), text.size(),
                                MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

void use(QmpClient& client) {
  auto id = client.send("query-status");
  if (!client.process_input()) return;
  if (id) {
    if (auto reply = client.take_reply(*id); reply && !*reply) (void)reply->error().message();
  }
  (void)client.execute("cont", {{"really", true}}, kNow);
  while (auto event = client.take_event())
    require(event->data.is_object() && event->timestamp_ns >= 0, "an event has data and a time");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  std::string_view rest = input.text();
  auto [qemu, socket] = must(socket_pair(SOCK_STREAM));
  if (!say(qemu, take_part(rest))) return 0;
  auto client = QmpClient::over(std::move(socket), QmpClient::Clock::now());
  if (!client) {
    require(!client.error().message().empty(), "a failure has a reason");
    return 0;
  }
  while (!rest.empty()) {
    if (!say(qemu, take_part(rest))) break;
    use(*client);
  }
  qemu.reset();
  auto end = client->process_input();
  require(!end.ok() && end.error().kind() == ErrorKind::kClosed, "the end is noticed");
  return 0;
}
