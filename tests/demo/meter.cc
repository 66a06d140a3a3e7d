#include "tests/demo/meter.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <unistd.h>

#include <map>
#include <sstream>

#include "cli/runtime_dir.h"

namespace vmhop::demo {
namespace {

using namespace std::chrono_literals;

// The bridge's own counter has what it passed up to its host; a guest's frames pass it by.
constexpr const char* kHostInterface = "br0";

// Of /proc/net/dev.
Result<uint64_t> bytes_received(const std::string& devices, const std::string& interface) {
  size_t at = devices.find(interface + ":");
  std::istringstream numbers(at == std::string::npos ? ""
                                                     : devices.substr(at + interface.size() + 1));
  uint64_t bytes = 0;
  if (!(numbers >> bytes)) return errorf("there is no interface {}", interface);
  return bytes;
}

}  // namespace

Result<Meter> Meter::start(const lab::VmhopHost& source, const lab::VmhopHost& destination,
                           const std::string& vm, const std::string& rdma_interface) {
  VMHOP_ASSIGN(Received before, received(destination, rdma_interface));
  VMHOP_ASSIGN(lab::Process samples,
               source.start_program({VMHOP_LAB_SOURCES "/tests/demo/source-cpu",
                                     VmPaths(source.runtime_directory(), vm).directory()}));
  VMHOP_TRY(samples.wait_for_out([](auto text) { return !text.empty(); }, lab::within(30s)));
  return Meter(destination, rdma_interface, before, std::move(samples));
}

Result<Costs> Meter::stop() {
  samples_.signal(SIGTERM);
  VMHOP_ASSIGN([[maybe_unused]] ExitStatus ended, samples_.wait(lab::within(30s)));
  VMHOP_ASSIGN(Received after, received(*destination_, rdma_interface_));
  double ms_per_tick = 1000.0 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return Costs{static_cast<double>(ticks_after_commit(samples_.out())) * ms_per_tick,
               after.rdma - before_.rdma, after.session - before_.session};
}

Result<Meter::Received> Meter::received(const lab::VmhopHost& host,
                                        const std::string& rdma_interface) {
  VMHOP_ASSIGN(std::string devices, host.output_of({"cat", "/proc/net/dev"}));
  Received received;
  VMHOP_ASSIGN(received.session, bytes_received(devices, kHostInterface));
  if (!rdma_interface.empty()) {
    VMHOP_ASSIGN(received.rdma, bytes_received(devices, rdma_interface));
  }
  return received;
}

uint64_t ticks_after_commit(const std::string& samples) {
  struct Used {
    uint64_t at_commit = 0;
    uint64_t last = 0;
  };
  std::map<uint64_t, Used> processes;
  std::istringstream lines(samples);
  unsigned committed = 0;
  uint64_t pid = 0;
  uint64_t ticks = 0;
  while (lines >> committed >> pid >> ticks) {
    Used& used = processes[pid];
    used.last = ticks;
    if (committed == 0) used.at_commit = ticks;
  }
  uint64_t sum = 0;
  for (const auto& [process, used] : processes)
    sum += used.last - used.at_commit;
  return sum;
}

}  // namespace vmhop::demo
