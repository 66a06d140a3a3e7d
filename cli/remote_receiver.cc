#include "cli/remote_receiver.h"

#include <fcntl.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "backend/base/json_text.h"
#include "cli/exit_codes.h"
#include "cli/json_access.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr size_t kMaxLine = size_t{64} << 10;
constexpr size_t kMaxNoise = size_t{4} << 10;
// A request must not wait for an ssh that asks nobody and gets nowhere.
constexpr int kInputBytes = 2 * static_cast<int>(kMaxReceiveRequest);
// How ssh ends when it is ssh that failed, and a shell that has no such program.
constexpr int kSshFailed = 255;
constexpr int kNoSuchProgram = 127;

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("a pipe to ssh", errno);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// What there is to read; an empty text at the end.
std::optional<std::string> read_some(int fd) {
  std::array<char, 4096> buffer{};
  ssize_t got = ::read(fd, buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  return std::string(buffer.data(), static_cast<size_t>(std::max<ssize_t>(0, got)));
}

// Below what they explain.
std::string indented(std::string_view lines) {
  std::string text;
  while (!lines.empty()) {
    size_t end = std::min(lines.find('\n'), lines.size());
    std::string_view line = lines.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    text += "\n  ";
    text += line;
    lines.remove_prefix(std::min(lines.size(), end + 1));
  }
  return text;
}

}  // namespace

Result<std::unique_ptr<RemoteReceiver>> RemoteReceiver::start(const std::vector<std::string>& ssh,
                                                              std::string host,
                                                              const ReceiveRequest& request,
                                                              const Secret& key) {
  VMHOP_ASSIGN(Pipe input, make_pipe());
  VMHOP_ASSIGN(Pipe output, make_pipe());
  VMHOP_ASSIGN(Pipe errors, make_pipe());
  (void)::fcntl(input.write_end.get(), F_SETPIPE_SZ, kInputBytes);
  VMHOP_TRY(set_nonblocking(input.write_end.get()));
  ChildSpec spec;
  spec.program = ssh.front();
  spec.argv = ssh;
  spec.standard_input = input.read_end.get();
  spec.standard_output = output.write_end.get();
  spec.standard_error = errors.write_end.get();
  VMHOP_ASSIGN(std::shared_ptr<ChildProcess> child, ChildProcess::spawn(spec));
  std::unique_ptr<RemoteReceiver> self(new RemoteReceiver(std::move(host), std::move(child)));
  self->lifeline_ = std::move(input.write_end);
  self->output_ = std::move(output.read_end);
  self->errors_ = std::move(errors.read_end);
  self->events_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!self->events_.valid()) return Error::from_errno("epoll_create1", errno);
  for (const UniqueFd* fd : {&self->output_, &self->errors_}) {
    VMHOP_TRY(set_nonblocking(fd->get()));
    VMHOP_TRY(self->watch(fd->get()));
  }
  VMHOP_TRY(self->watch(self->ssh_->pidfd()));
  self->renewed_ = Clock::now();
  // The pipe has room for all of it, and is not broken by an ssh that has ended already: that one's
  // own words say more.
  VMHOP_TRY(send_receive_request(self->lifeline_.get(), request, key));
  return self;
}

RemoteReceiver::~RemoteReceiver() {
  let_go();
  if (!gone() && !ssh_->poll()) ssh_->signal(SIGTERM);
  if (!ssh_->wait(std::chrono::seconds(1))) ssh_->kill_and_reap();
}

Status RemoteReceiver::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Error::from_errno("epoll_ctl", errno);
  }
  return ok_status();
}

void RemoteReceiver::update() {
  if (gone()) return;
  // First whether it has ended: what it wrote before that is there to be read then.
  auto ended = ssh_->poll();
  if (output_.valid()) read_output();
  if (errors_.valid()) read_errors();
  if (!ended) return;
  ended_ = ended;
  (void)::epoll_ctl(events_.get(), EPOLL_CTL_DEL, ssh_->pidfd(), nullptr);
  output_.reset();
  errors_.reset();
  let_go();
}

void RemoteReceiver::read_output() {
  while (auto text = read_some(output_.get())) {
    // Closing it takes it out of the epoll.
    if (text->empty()) return output_.reset();
    for (char c : *text) {
      if (c == '\n') {
        on_line(std::exchange(line_, ""));
      } else if (line_.size() < kMaxLine) {
        line_ += c;
      }
    }
  }
}

void RemoteReceiver::read_errors() {
  while (auto text = read_some(errors_.get())) {
    if (text->empty()) return errors_.reset();
    noise_ += *text;
    if (noise_.size() > kMaxNoise) noise_.erase(0, noise_.size() - kMaxNoise);
  }
}

// A login shell may have said something before.
void RemoteReceiver::on_line(const std::string& line) {
  json news = parse_json(line);
  std::string event = text_of(news, "event");
  if (event == "ready") {
    uint64_t port = number_of(news, "port");
    ready_ = Ready{text_of(news, "address"), static_cast<uint16_t>(port)};
  } else if (event == "failed") {
    failure_ = std::move(news);
  } else if (noise_.size() + line.size() < kMaxNoise) {
    noise_ += line + "\n";
  }
}

void RemoteReceiver::renew() {
  auto now = Clock::now();
  if (!lifeline_.valid() || now - renewed_ < kRenewEvery) return;
  renewed_ = now;
  // One that cannot be written ends soon: ssh says why.
  [[maybe_unused]] ssize_t written = ::write(lifeline_.get(), "\n", 1);
}

std::string RemoteReceiver::last_words() const {
  return indented(text_of(failure_, "log"));
}

Error RemoteReceiver::why_gone() const {
  if (failure_.is_object()) {
    std::string message = text_of(failure_, "message");
    ErrorKind kind = kind_named(text_of(failure_, "kind"));
    if (message.empty()) message = "the receiving side did not start, or has ended";
    return Error(fmt::format("at {}: {}{}", host_, message, last_words()), kind);
  }
  ExitStatus end = ended_.value_or(ExitStatus{});
  std::string said = indented(noise_);
  if (ready_) return Error(fmt::format("the ssh connection to {} was lost{}", host_, said));
  if (end.shell_code() == kSshFailed) {
    return refusedf(
        "{} cannot be reached by ssh:{}\nvmhop lets ssh ask nothing: `ssh -o BatchMode=yes` has to "
        "reach it, with a host key that is known and a key that needs no passphrase (or an agent)",
        host_, said);
  }
  if (end.shell_code() == kNoSuchProgram) {
    return refusedf(
        "{} has no vmhop where its shell looks for programs:{}\nInstall it there, or say where it "
        "is: --remote-vmhop /PATH/TO/vmhop",
        host_, said);
  }
  if (end.shell_code() == kExitUsage) {
    return refusedf(
        "vmhop at {} does not know how to be started by ssh:{}\nInstall the version that is here "
        "({})",
        host_, said, VMHOP_VERSION);
  }
  return Error(fmt::format("ssh to {} {} before the receiving side was ready{}", host_,
                           end.describe(), said));
}

}  // namespace vmhop
