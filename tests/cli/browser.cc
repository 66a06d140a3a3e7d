#include "tests/cli/browser.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "backend/base/fd.h"
#include "cli/child_process.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

constexpr std::chrono::seconds kPatience{90};
constexpr const char* kBrowser = "chromium-headless-shell";
constexpr std::string_view kBegin = "BEGIN-OF-FINDINGS";
constexpr std::string_view kEnd = "END-OF-FINDINGS";

// Looks into the page from outside, so that the page is as it is delivered, with its own policy.
constexpr const char* kObserver = R"(<!DOCTYPE html><html><body>
<iframe id="page" width="1000" height="2000" src="SOURCE"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById('page');
frame.addEventListener('load', () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const luminance = (color) => {
    const parts = color.match(/[0-9.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : Math.pow((share + 0.055) / 1.055, 2.4);
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const style = view.getComputedStyle(page.body);
  const lights = [luminance(style.color), luminance(style.backgroundColor)].sort((a, b) => b - a);
  const phases = [...page.querySelectorAll('g.phase')].map((phase) => {
    const bar = phase.querySelector('rect').getBoundingClientRect();
    const chart = phase.closest('svg').getBoundingClientRect();
    return { chart: phase.closest('svg').id, name: phase.dataset.phase, width: bar.width,
      height: bar.height, left: bar.left,
      seen: bar.left >= chart.left - 1 && bar.right <= chart.right + 1 &&
        bar.top >= chart.top - 1 && bar.bottom <= chart.bottom + 1 };
  });
  const findings = { title: page.title, text: page.body.innerText, phases,
    paths: page.querySelectorAll('path.line').length,
    buckets: [...page.querySelectorAll('rect.bucket')].filter((bar) =>
      bar.getBoundingClientRect().height > 0).length,
    contrast: (lights[0] + 0.05) / (lights[1] + 0.05), dark: luminance(style.backgroundColor) < 0.5,
    overflow: page.documentElement.scrollWidth > page.documentElement.clientWidth,
    elements: [...new Set([...page.querySelectorAll('*')].map((each) => each.localName))],
    requests: view.performance.getEntriesByType('resource').map((each) => each.name) };
  // No character of it is markup in the dump.
  const text = encodeURIComponent(JSON.stringify(findings));
  document.getElementById('found').textContent = 'BEGIN-OF-' + 'FINDINGS' + text + 'END-OF-' + 'FINDINGS';
});
</script></body></html>
)";

std::string decoded(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      plain += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// What a console line of the browser's log says: [pid:tid:time:INFO:CONSOLE:line] "text", …
nlohmann::json console_lines(const std::string& log) {
  auto found = nlohmann::json::array();
  for (size_t at = log.find(":CONSOLE"); at != std::string::npos; at = log.find(":CONSOLE", at + 1))
    found.push_back(log.substr(at, log.find('\n', at) - at));
  return found;
}

Status run_browser(const TemporaryDirectory& home, const std::string& url, bool dark,
                   const std::string& dump) {
  UniqueFd out(::open(dump.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!out.valid()) return Error::from_errno("opening " + dump, errno);
  ChildSpec spec;
  spec.program = "sh";
  spec.standard_output = out.get();
  spec.environment = {{"CHROME_LOG_FILE", home.path() + "/log"}, {"HOME", home.path()}};
  // What it says of the machine that it runs on is nobody's business; its log has the rest.
  spec.argv = {
      "sh",
      "-c",
      "exec \"$0\" \"$@\" 2>/dev/null",
      kBrowser,
      "--no-sandbox",  // tests run as root
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--allow-file-access-from-files",
      "--enable-logging",
      "--log-level=0",
      "--user-data-dir=" + home.path() + "/profile",
      "--virtual-time-budget=10000",
      dark ? "--blink-settings=preferredColorScheme=0" : "--blink-settings=preferredColorScheme=1",
      "--dump-dom",
      url};
  VMHOP_ASSIGN(auto browser, ChildProcess::spawn(spec));
  auto ended = browser->wait(std::chrono::duration_cast<std::chrono::milliseconds>(kPatience));
  if (!ended) {
    browser->kill_and_reap();
    return ended.error().with("the browser");
  }
  if (!ended->clean()) return errorf("the browser {}", ended->describe());
  return ok_status();
}

}  // namespace

Result<nlohmann::json> look_at_page(const std::string& html_file, bool dark) {
  TemporaryDirectory home;
  std::string observer = kObserver;
  observer.replace(observer.find("SOURCE"), 6,
                   "file://" + std::filesystem::absolute(html_file).string());
  std::string outside = home.path() + "/observer.html";
  std::ofstream(outside) << observer;
  std::string dump = home.path() + "/dump";
  VMHOP_TRY(run_browser(home, "file://" + outside, dark, dump));
  VMHOP_ASSIGN(std::string seen, read_file(dump, size_t{64} << 20));
  auto log = read_file(home.path() + "/log", size_t{64} << 20);
  size_t begin = seen.find(kBegin);
  size_t end = seen.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos) {
    return errorf("the browser did not show the page: {}", log ? *log : log.error().message());
  }
  begin += kBegin.size();
  auto findings = nlohmann::json::parse(decoded(seen.substr(begin, end - begin)));
  if (!log) return log.error().with("the browser's log");
  findings["complaints"] = console_lines(*log);
  return findings;
}

}  // namespace vmhop
