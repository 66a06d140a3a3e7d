#include "tests/lab/wrk.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include <charconv>
#include <initializer_list>

namespace vmhop::lab {
namespace {

template <typename Number>
bool number_at(std::string_view text, size_t at, Number& number) {
  while (at < text.size() && text[at] == ' ')
    ++at;
  return std::from_chars(text.data() + at, text.data() + text.size(), number).ec == std::errc{};
}

// Adds the number after each of these words, where they are.
uint64_t sum_after(std::string_view text, std::initializer_list<std::string_view> words) {
  uint64_t sum = 0;
  for (std::string_view word : words) {
    size_t at = text.find(word);
    uint64_t number = 0;
    if (at != std::string_view::npos && number_at(text, at + word.size(), number)) sum += number;
  }
  return sum;
}

}  // namespace

Result<WrkSummary> parse_wrk(const std::string& printed) {
  constexpr std::string_view kRequests = " requests in ";
  constexpr std::string_view kRate = "Requests/sec:";
  WrkSummary summary;
  size_t at = printed.find(kRequests);
  size_t rate = printed.find(kRate);
  size_t line = at == std::string::npos ? at : printed.rfind('\n', at);
  if (rate == std::string::npos || line == std::string::npos ||
      !number_at(printed, line + 1, summary.requests) ||
      !number_at(printed, rate + kRate.size(), summary.requests_per_second)) {
    return errorf("wrk printed no summary:\n{}", last_lines(printed, 10));
  }
  summary.socket_errors =
      sum_after(printed, {"Socket errors: connect ", ", read ", ", write ", ", timeout "});
  summary.bad_answers = sum_after(printed, {"Non-2xx or 3xx responses: "});
  return summary;
}

Result<Wrk> Wrk::start(const Namespace& where, const std::string& url, unsigned connections,
                       const std::string& output) {
  ProcessSpec spec;
  spec.argv = {"wrk",        "--threads", "1",         "--connections", fmt::to_string(connections),
               "--duration", "1h",        "--timeout", "30s",           url};
  spec.where = &where;
  spec.output = output;
  VMHOP_ASSIGN(Process process, Process::start(spec));
  return Wrk(std::move(process));
}

Result<WrkSummary> Wrk::stop() {
  process_.signal(SIGINT);
  auto ended = process_.wait(within(std::chrono::seconds(10)));
  if (!ended) return ended.error();
  if (!ended->clean()) return errorf("wrk {}: {}", ended->describe(), process_.err());
  return parse_wrk(process_.out());
}

}  // namespace vmhop::lab
