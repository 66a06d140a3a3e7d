// The serial console: whole lines out, from any thread, and commands in.
//
// Every line goes out in a single write(2), which the tty layer keeps in one piece, so lines of
// different threads never mix.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <string>
#include <vector>

namespace witness {

// WITNESS-ERROR lines of one source (memory, disk): enough to see what is wrong. After that only
// the count goes on, so that heartbeats still get through.
constexpr uint64_t kMostErrorLines = 200;

// Makes the terminal on standard input and output raw: no echo, no line editing.
void MakeConsoleRaw();

// Prints one line; `format` has no newline. Any thread.
void Say(const char* format, ...) __attribute__((format(printf, 1, 2)));

// What the world outside asks for: lines on the console, or the ACPI power button.
class Requests {
 public:
  Requests();  // opens the input devices that are there
  ~Requests();
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  // Blocks until there is one. The power button reads as "POWEROFF".
  std::string Next();

 private:
  std::vector<int> buttons_;
  std::string pending_;
};

}  // namespace witness
