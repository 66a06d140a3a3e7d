#include "cli/receiver_lease.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <vector>

namespace vmhop {
namespace {

constexpr off_t kLastLogBytes = 4096;

}  // namespace

bool ReceiverLease::renew() {
  std::array<char, 256> read{};
  ssize_t got = ::read(fd(), read.data(), read.size());
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

Status ReceiverLease::log_to(const std::string& path) {
  log_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!log_.valid()) return Error::from_errno("opening the log " + path, errno);
  if (::dup2(log_.get(), STDERR_FILENO) < 0) {
    return Error::from_errno("writing to the log " + path, errno);
  }
  return ok_status();
}

std::string ReceiverLease::last_log_lines() const {
  struct stat info {};
  if (!log_.valid() || ::fstat(log_.get(), &info) != 0) return "";
  off_t from = std::max<off_t>(0, info.st_size - kLastLogBytes);
  std::string text(static_cast<size_t>(info.st_size - from), '\0');
  ssize_t got = ::pread(log_.get(), text.data(), text.size(), from);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, got)));
  // No half of a line.
  if (from > 0) text.erase(0, text.find('\n') + 1);
  return text;
}

// By which this host was reached: "CLIENT PORT SERVER PORT".
std::string ReceiverLease::address_of_ssh() {
  const char* connection = std::getenv("SSH_CONNECTION");
  std::vector<std::string> words;
  for (std::string_view rest = connection != nullptr ? connection : ""; !rest.empty();) {
    size_t end = std::min(rest.find(' '), rest.size());
    words.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(rest.size(), end + 1));
  }
  // One of a link alone means nothing elsewhere.
  bool usable = words.size() == 4 && words[2].find('%') == std::string::npos;
  return usable ? words[2] : "";
}

void ReceiverLease::say(const nlohmann::json& news) const {
  if (!ends_.news.valid()) return;
  std::string line = news.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  // Whoever does not listen learns it by the end of ssh.
  (void)write_all(ends_.news.get(), std::as_bytes(std::span(line)));
}

void ReceiverLease::settle() {
  static constexpr std::byte kSettled{1};
  (void)write_all(ends_.settled.get(), std::span(&kSettled, 1));
  ends_ = {};
}

}  // namespace vmhop
