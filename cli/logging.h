// What vmhop says on standard error: lines for people, or one JSON object a line for programs that
// collect logs. Set up once, at the beginning of main; from then on any thread may log.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace vmhop {

enum class LogFormat { kText, kJson };

// "text", "json"; nothing for another name.
std::optional<LogFormat> log_format_named(const std::string& name);

struct LogSetup {
  std::string role;  // supervisor, exporter, pager; command for those that do their work and end
  std::string vm;    // empty: none, or more than one
  std::string level = "info";  // debug, info, warn, error
  LogFormat format = LogFormat::kText;
};

// Makes spdlog's default logger of it. What a supervisor starts finds level, format and VM in its
// environment; the others start nothing of vmhop, and leave there what they were given.
void set_up_logging(const LogSetup& setup);
// What the process that started this one has left there for it.
LogSetup inherited_logging(const std::string& role);

// How standard error was set up.
LogFormat log_format();

// Why a command could not do what it was asked for. "vmhop: MESSAGE", at any level.
void complain(const std::string& message);
// What a command has to say to the person who gave it: MESSAGE alone, as a line. In JSON its level
// is info.
void tell_user(const std::string& message);

// The format that a command line asks for, before it is known to be right: its errors have to be
// said as well. Nothing when it names none.
std::optional<LogFormat> wanted_log_format(const std::vector<std::string>& arguments);

}  // namespace vmhop
