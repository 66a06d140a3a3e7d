#include "tests/demo/stage_display.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace vmhop::demo {
namespace {

constexpr const char* kClearLine = "\r\x1b[K";
constexpr const char* kGreen = "\x1b[32m";
constexpr const char* kYellow = "\x1b[33m";
constexpr const char* kRed = "\x1b[31m";
constexpr const char* kPlain = "\x1b[0m";

}  // namespace

StageDisplay::StageDisplay() : terminal_(::isatty(STDOUT_FILENO) != 0) {}

void StageDisplay::working(const std::string& stage, const std::string& text) {
  if (!terminal_) return;
  fmt::print("{}  · {:<12} {}", kClearLine, stage, text);
  std::fflush(stdout);
}

void StageDisplay::line(const char* mark, const char* colour, const std::string& stage,
                        const std::string& text) {
  if (terminal_) {
    fmt::print("{}  {}{}{} {:<12} {}\n", kClearLine, colour, mark, kPlain, stage, text);
  } else {
    fmt::print("  {} {:<12} {}\n", mark, stage, text);
  }
  std::fflush(stdout);
}

void StageDisplay::done(const std::string& stage, const std::string& text) {
  line("✓", kGreen, stage, text);
}

void StageDisplay::warn(const std::string& text) {
  line("!", kYellow, "warning", text);
}

void StageDisplay::failed(const std::string& stage, const std::string& text) {
  line("✗", kRed, stage, text);
}

void StageDisplay::text(const std::string& lines) {
  fmt::print("{}{}", terminal_ ? kClearLine : "", lines);
  std::fflush(stdout);
}

std::string StageDisplay::bold(const std::string& text) const {
  return terminal_ ? "\x1b[1m" + text + kPlain : text;
}

}  // namespace vmhop::demo
