#include "cli/logging.h"

#include <fmt/chrono.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

namespace vmhop {
namespace {

constexpr const char* kLevelVariable = "VMHOP_LOG_LEVEL";
constexpr const char* kFormatVariable = "VMHOP_LOG_FORMAT";
constexpr const char* kVmVariable = "VMHOP_LOG_VM";
constexpr const char* kOption = "--log-format";

LogFormat& chosen_format() {
  static LogFormat format = LogFormat::kText;
  return format;
}

// RFC 3339, in UTC, with microseconds.
std::string time_text(spdlog::log_clock::time_point when) {
  auto seconds = std::chrono::floor<std::chrono::seconds>(when);
  auto rest = std::chrono::duration_cast<std::chrono::microseconds>(when - seconds);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                     fmt::gmtime(spdlog::log_clock::to_time_t(seconds)), rest.count());
}

const char* level_text(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
    case spdlog::level::debug:
      return "debug";
    case spdlog::level::info:
      return "info";
    case spdlog::level::warn:
      return "warn";
    default:
      return "error";
  }
}

class JsonLines : public spdlog::formatter {
 public:
  JsonLines(std::string role, std::string vm) : role_(std::move(role)), vm_(std::move(vm)) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& line) override {
    nlohmann::ordered_json entry = {{"time", time_text(message.time)},
                                    {"level", level_text(message.level)},
                                    {"role", role_},
                                    {"pid", ::getpid()}};
    if (!vm_.empty()) entry["vm"] = vm_;
    entry["message"] = std::string(message.payload.data(), message.payload.size());
    // What is no UTF-8 is replaced: the line has to be JSON whatever somebody put into a message.
    std::string text =
        entry.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    line.append(text.data(), text.data() + text.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonLines>(role_, vm_);
  }

 private:
  std::string role_;
  std::string vm_;
};

std::string variable(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : fallback;
}

}  // namespace

std::optional<LogFormat> log_format_named(const std::string& name) {
  if (name == "text") return LogFormat::kText;
  if (name == "json") return LogFormat::kJson;
  return std::nullopt;
}

void set_up_logging(const LogSetup& setup) {
  spdlog::drop("vmhop");
  auto logger = spdlog::stderr_logger_mt("vmhop");
  if (setup.format == LogFormat::kJson) {
    logger->set_formatter(std::make_unique<JsonLines>(setup.role, setup.vm));
  } else {
    bool helper = setup.role == "exporter" || setup.role == "pager";
    logger->set_pattern(helper ? "vmhop " + setup.role + ": %v" : "vmhop: %v");
  }
  logger->set_level(spdlog::level::from_str(setup.level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  chosen_format() = setup.format;
  if (setup.role != "supervisor") return;
  ::setenv(kLevelVariable, setup.level.c_str(), 1);
  ::setenv(kFormatVariable, setup.format == LogFormat::kJson ? "json" : "text", 1);
  ::setenv(kVmVariable, setup.vm.c_str(), 1);
}

LogSetup inherited_logging(const std::string& role) {
  auto format = log_format_named(variable(kFormatVariable, "text"));
  return {role, variable(kVmVariable, ""), variable(kLevelVariable, "info"),
          format.value_or(LogFormat::kText)};
}

LogFormat log_format() {
  return chosen_format();
}

void complain(const std::string& message) {
  spdlog::error("{}", message);
}

void tell_user(const std::string& message) {
  if (log_format() == LogFormat::kJson) return spdlog::info("{}", message);
  fmt::print(stderr, "{}\n", message);
}

std::optional<LogFormat> wanted_log_format(const std::vector<std::string>& arguments) {
  std::string assignment = std::string(kOption) + "=";
  for (size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (arguments[i].starts_with(assignment))
      return log_format_named(arguments[i].substr(assignment.size()));
    if (arguments[i] == kOption && i + 1 < arguments.size())
      return log_format_named(arguments[i + 1]);
  }
  return std::nullopt;
}

}  // namespace vmhop
