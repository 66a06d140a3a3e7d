#include "tests/lab/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): POSIX terminals, not C's
#include <sys/ioctl.h>
#include <termios.h>

#include <array>
#include <cerrno>

#include "tests/lab/process.h"

namespace vmhop::lab {
namespace {

Result<std::string> settings_of(int fd) {
  termios now{};
  if (::tcgetattr(fd, &now) != 0) return Error::from_errno("tcgetattr", errno);
  return fmt::format("{:x} {:x} {:x} {:x} {}", now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag,
                     std::string_view(reinterpret_cast<const char*>(now.c_cc), sizeof now.c_cc));
}

}  // namespace

Result<std::unique_ptr<Terminal>> Terminal::open() {
  UniqueFd person(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  std::array<char, 64> name{};
  if (!person.valid() || ::grantpt(person.get()) != 0 || ::unlockpt(person.get()) != 0 ||
      ::ptsname_r(person.get(), name.data(), name.size()) != 0) {
    return Error::from_errno("opening a terminal", errno);
  }
  UniqueFd program(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!program.valid()) return Error::from_errno("opening a terminal", errno);
  VMHOP_ASSIGN(std::string settings, settings_of(program.get()));
  return std::unique_ptr<Terminal>(
      new Terminal(std::move(person), std::move(program), std::move(settings)));
}

Status Terminal::type(std::string_view keys) const {
  return write_all(person_end_.get(), std::as_bytes(std::span(keys)));
}

Status Terminal::resize(unsigned short columns, unsigned short rows) const {
  winsize size{rows, columns, 0, 0};
  if (::ioctl(person_end_.get(), TIOCSWINSZ, &size) != 0) {
    return Error::from_errno("resizing a terminal", errno);
  }
  return ok_status();
}

Status Terminal::read_what_is_there() {
  std::array<char, 4096> buffer{};
  for (;;) {
    ssize_t got = ::read(person_end_.get(), buffer.data(), buffer.size());
    if (got > 0) {
      shown_.append(buffer.data(), static_cast<size_t>(got));
    } else if (got < 0 && errno == EAGAIN) {
      return ok_status();
    } else if (got == 0 || errno != EINTR) {
      return Error::from_errno("reading a terminal", errno);
    }
  }
}

Status Terminal::wait_for(const Seen& seen, Deadline deadline) {
  for (;;) {
    VMHOP_TRY(read_what_is_there());
    if (seen(shown_)) return ok_status();
    VMHOP_ASSIGN(short ready, wait_fd(person_end_.get(), POLLIN, milliseconds_until(deadline)));
    if (ready == 0) {
      return errorf("the terminal does not show what is expected, but:\n{}",
                    last_lines(shown_, 15));
    }
  }
}

Result<std::string> Terminal::shown() {
  VMHOP_TRY(read_what_is_there());
  return shown_;
}

bool Terminal::has_its_first_settings() const {
  auto now = settings_of(program_end_.get());
  return now && *now == first_settings_;
}

}  // namespace vmhop::lab
