#include "bench/costs.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "tests/lab/clock.h"

namespace vmhop::bench {
namespace {

constexpr std::chrono::milliseconds kInterval{50};
// The bridge's own counter has what it passed up to its host; a guest's frames pass it by.
constexpr const char* kHostInterface = "br0";

std::string text_at(const std::string& path) {
  auto text = read_file(path, size_t{1} << 16);
  return text ? *text : std::string();
}

// Of /proc/…/stat: utime and stime, the 14th and 15th field. The second one may hold blanks.
double ticks_in(const std::string& stat) {
  size_t at = stat.rfind(')');
  if (at == std::string::npos) return 0;
  std::istringstream fields(stat.substr(at + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i)
    fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return user + system;
}

Ticks ticks_of(pid_t pid) {
  std::string process = fmt::format("/proc/{}", pid);
  Ticks ticks{ticks_in(text_at(process + "/stat")), 0};
  std::error_code ignored;
  for (const auto& task : std::filesystem::directory_iterator(process + "/task", ignored)) {
    // "CPU 0/TCG", "CPU 0/KVM"
    std::string stat = text_at(task.path() / "stat");
    if (stat.find("(CPU ") != std::string::npos) ticks.guest += ticks_in(stat);
  }
  return ticks;
}

double kib_after(const std::string& status, std::string_view name) {
  size_t at = status.find(name);
  return at == std::string::npos ? 0 : std::strtod(status.c_str() + at + name.size(), nullptr);
}

// vmhop's own processes only: what QEMU holds, it holds in every mode.
Memory vmhop_memory_of(pid_t pid) {
  std::string status = text_at(fmt::format("/proc/{}/status", pid));
  if (!status.starts_with("Name:\tvmhop")) return {};
  return {kib_after(status, "\nRssAnon:"), kib_after(status, "\nVmPTE:")};
}

Result<double> bytes_received(const lab::VmhopHost& host) {
  VMHOP_ASSIGN(std::string devices, host.output_of({"cat", "/proc/net/dev"}));
  size_t at = devices.find(std::string(kHostInterface) + ":");
  if (at == std::string::npos) return errorf("{} has no {}", host.name(), kHostInterface);
  return std::strtod(devices.c_str() + at + std::string_view(kHostInterface).size() + 1, nullptr);
}

}  // namespace

Result<std::unique_ptr<CostMeter>> CostMeter::start(const lab::Network& network,
                                                    const lab::VmhopHost& source,
                                                    const lab::VmhopHost& destination) {
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<CostMeter> meter(new CostMeter(std::move(stop)));
  for (const lab::VmhopHost* host : {&source, &destination}) {
    VMHOP_ASSIGN(double received, bytes_received(*host));
    meter->hosts_.push_back({host, network.host(host->name()).fd(), received, {}, {}});
  }
  meter->sample();
  meter->first_sample_ = false;
  meter->thread_ = std::thread([raw = meter.get()] { raw->work(); });
  return meter;
}

CostMeter::~CostMeter() {
  end();
}

void CostMeter::end() {
  if (!thread_.joinable()) return;
  stop_.notify();
  thread_.join();
}

Result<Costs> CostMeter::stop() {
  end();
  sample();
  Costs costs;
  auto tick = static_cast<double>(::sysconf(_SC_CLK_TCK));
  for (size_t i = 0; i < hosts_.size(); ++i) {
    for (const auto& [pid, used] : hosts_[i].used) {
      double guest = used.last.guest - used.first.guest;
      costs.cpu_s[i] += (used.last.all - used.first.all - guest) / tick;
    }
    costs.vmhop_mib[i] = hosts_[i].vmhop.anonymous_kib / 1024;
    costs.vmhop_page_tables_mib[i] = hosts_[i].vmhop.page_tables_kib / 1024;
    VMHOP_ASSIGN(double received, bytes_received(*hosts_[i].host));
    costs.wire_mib += (received - hosts_[i].received) / (1 << 20);
  }
  return costs;
}

void CostMeter::work() {
  for (;;) {
    auto stopped = wait_fd(stop_.fd(), POLLIN, static_cast<int>(kInterval.count()));
    if (!stopped || *stopped != 0) return;
    sample();
  }
}

void CostMeter::sample() {
  for (Host& host : hosts_) {
    Memory vmhop;
    for (pid_t pid : lab::processes_in({host.namespace_fd})) {
      Ticks ticks = ticks_of(pid);
      // One that is new since has all of its time for this.
      Used& used =
          host.used.try_emplace(pid, Used{first_sample_ ? ticks : Ticks{}, ticks}).first->second;
      used.last.all = std::max(used.last.all, ticks.all);
      used.last.guest = std::max(used.last.guest, ticks.guest);
      Memory memory = vmhop_memory_of(pid);
      vmhop.anonymous_kib += memory.anonymous_kib;
      vmhop.page_tables_kib += memory.page_tables_kib;
    }
    host.vmhop.anonymous_kib = std::max(host.vmhop.anonymous_kib, vmhop.anonymous_kib);
    host.vmhop.page_tables_kib = std::max(host.vmhop.page_tables_kib, vmhop.page_tables_kib);
  }
}

}  // namespace vmhop::bench
