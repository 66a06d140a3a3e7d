#include "console.h"

#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>

namespace witness {
namespace {

bool PowerButtonPressed(int fd) {
  input_event event{};
  return read(fd, &event, sizeof event) == static_cast<ssize_t>(sizeof event) &&
         event.type == EV_KEY && event.code == KEY_POWER && event.value == 1;
}

}  // namespace

void MakeConsoleRaw() {
  termios tty{};
  if (tcgetattr(STDIN_FILENO, &tty) != 0) return;
  cfmakeraw(&tty);
  tcsetattr(STDIN_FILENO, TCSANOW, &tty);
  // Firmware and kernel may have left the cursor in mid-line.
  Say("%s", "");
}

void Say(const char* format, ...) {
  char line[256];
  va_list args;
  va_start(args, format);
  const int length = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  if (length < 0) return;
  size_t size = static_cast<size_t>(length) < sizeof line - 1 ? length : sizeof line - 2;
  line[size++] = '\n';
  // Nobody is left to tell about a failure to write to the console.
  if (write(STDOUT_FILENO, line, size) < 0) return;
}

Requests::Requests() {
  for (int i = 0; i < 8; ++i) {
    char path[32];
    snprintf(path, sizeof path, "/dev/input/event%d", i);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) buttons_.push_back(fd);
  }
}

Requests::~Requests() {
  for (int fd : buttons_)
    close(fd);
}

std::string Requests::Next() {
  for (;;) {
    const size_t end = pending_.find_first_of("\r\n");
    if (end == 0) {
      pending_.erase(0, 1);
      continue;
    }
    if (end != std::string::npos) {
      std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return line;
    }
    std::vector<pollfd> inputs{{STDIN_FILENO, POLLIN, 0}};
    for (int fd : buttons_)
      inputs.push_back({fd, POLLIN, 0});
    if (poll(inputs.data(), inputs.size(), -1) < 0) continue;
    for (size_t i = 1; i < inputs.size(); ++i) {
      if (inputs[i].revents != 0 && PowerButtonPressed(inputs[i].fd)) return "POWEROFF";
    }
    if (inputs[0].revents == 0) continue;
    char bytes[64];
    const ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
    if (got > 0) {
      pending_.append(bytes, static_cast<size_t>(got));
    } else {
      sleep(1);  // the terminal was hung up: the power button still works
    }
  }
}

}  // namespace witness
