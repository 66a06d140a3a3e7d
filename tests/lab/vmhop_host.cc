#include "tests/lab/vmhop_host.h"

#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "tests/lab/connect_when_there.h"

namespace vmhop::lab {
namespace {

// QEMU has to start, on a machine that may be busy.
constexpr std::chrono::seconds kStartTimeout{60};
constexpr std::chrono::seconds kCommandTimeout{60};
constexpr int kKillTimeoutMs = 30'000;
constexpr size_t kMaxReport = size_t{1} << 20;

void append(std::vector<std::string>& all, const std::vector<std::string>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

bool contains(std::string_view text, std::string_view wanted) {
  return text.find(wanted) != std::string_view::npos;
}

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0) return Error::from_errno("mkdir " + path, errno);
  return ok_status();
}

}  // namespace

std::string lab_vmhop() {
  const char* chosen = std::getenv("VMHOP_LAB_VMHOP");
  return chosen != nullptr ? chosen : VMHOP_LAB_PROGRAM;
}

nlohmann::json Finished::json() const {
  return nlohmann::json::parse(last_lines(out, 1), nullptr, false);
}

std::string Finished::describe() const {
  return fmt::format("it {}\nstandard output:\n{}standard error:\n{}", status.describe(),
                     last_lines(out, 20), last_lines(err, 20));
}

Result<VmhopHost> VmhopHost::create(const Network& network, const std::string& name,
                                    const std::string& vmhop) {
  VmhopHost host(network.directory(), name, network.address(name), vmhop);
  host.where_ = &network.host(name);
  VMHOP_TRY(host.prepare(network.directory()));
  return host;
}

Result<VmhopHost> VmhopHost::create(const UmlHost& uml, const std::string& directory,
                                    const std::string& vmhop) {
  VmhopHost host(directory, uml.name(), uml.address(), vmhop);
  host.uml_ = &uml;
  VMHOP_TRY(host.prepare(directory));
  return host;
}

Status VmhopHost::prepare(const std::string& lab) const {
  VMHOP_TRY(make_directory(directory_));
  if (std::filesystem::exists(key_)) return ok_status();
  auto made = run_tool(lab, {vmhop_, "keygen", key_});
  return made ? ok_status() : Status(made.error());
}

ProcessSpec VmhopHost::spec_for(const std::vector<std::string>& arguments) const {
  std::vector<std::string> argv = {vmhop_};
  append(argv, arguments);
  return program_spec(argv, arguments[0]);
}

ProcessSpec VmhopHost::program_spec(const std::vector<std::string>& argv,
                                    const std::string& called) const {
  static std::atomic<unsigned> count{0};
  ProcessSpec spec;
  spec.argv = launcher_;
  append(spec.argv, argv);
  spec.where = where_;
  spec.host = uml_;
  spec.environment = environment_;
  spec.output = fmt::format("{}/{:02}-{}", directory_, ++count, called);
  return spec;
}

Result<Process> VmhopHost::start(const std::vector<std::string>& arguments) const {
  return Process::start(spec_for(arguments));
}

Result<Process> VmhopHost::start_on(const Terminal& terminal,
                                    const std::vector<std::string>& arguments) const {
  ProcessSpec spec = spec_for(arguments);
  spec.terminal = terminal.program_end();
  return Process::start(spec);
}

std::vector<std::string> VmhopHost::with_key(std::vector<std::string> options) const {
  bool named = std::any_of(options.begin(), options.end(), [](const std::string& option) {
    return option == "--key" || option == "--tls-creds";
  });
  if (!named) append(options, {"--key", key_});
  return options;
}

Result<Process> VmhopHost::run(const std::string& vm, const std::vector<std::string>& qemu,
                               const std::vector<std::string>& options) const {
  std::vector<std::string> arguments = {"run", vm};
  append(arguments, options);
  arguments.emplace_back("--");
  append(arguments, qemu);
  VMHOP_ASSIGN(Process process, start(arguments));
  VMHOP_TRY(process.wait_for_err([](auto text) { return contains(text, " runs here"); },
                                 within(kStartTimeout)));
  return process;
}

Result<Process> VmhopHost::receive(const std::string& vm, const std::vector<std::string>& qemu,
                                   const std::vector<std::string>& options) const {
  VMHOP_ASSIGN(Process process, start_receiving(vm, qemu, options));
  VMHOP_TRY(process.wait_for_err([](auto text) { return contains(text, ": receiving on "); },
                                 within(kStartTimeout)));
  return process;
}

Result<Process> VmhopHost::start_receiving(const std::string& vm,
                                           const std::vector<std::string>& qemu,
                                           const std::vector<std::string>& options) const {
  std::vector<std::string> arguments = {"receive", vm, "--listen", endpoint()};
  append(arguments, with_key(options));
  arguments.emplace_back("--");
  append(arguments, qemu);
  return start(arguments);
}

Result<Process> VmhopHost::relocate(const std::string& vm, const std::string& endpoint,
                                    const std::vector<std::string>& options) const {
  std::vector<std::string> arguments = {"relocate", vm, endpoint, "--json"};
  append(arguments, with_key(options));
  return start(arguments);
}

Result<Finished> VmhopHost::command(const std::vector<std::string>& arguments) const {
  VMHOP_ASSIGN(Process process, start(arguments));
  return finish(process, within(kCommandTimeout));
}

Result<Process> VmhopHost::start_program(const std::vector<std::string>& argv) const {
  return Process::start(program_spec(argv, std::filesystem::path(argv[0]).filename()));
}

Result<std::string> VmhopHost::output_of(const std::vector<std::string>& argv) const {
  VMHOP_ASSIGN(Process process, start_program(argv));
  VMHOP_ASSIGN(Finished finished, finish(process, within(kCommandTimeout)));
  if (!finished.status.clean()) return Error(argv[0] + ": " + finished.describe());
  return finished.out;
}

// On a kernel of its own it is found there, in a namespace from here: processes are everybody's.
Status VmhopHost::kill_all(const std::string& prefix) const {
  if (where_ == nullptr) {
    std::string script = "pkill -KILL ^$0; while pgrep ^$0 >/dev/null; do sleep 0.1; done";
    auto killed = output_of({"sh", "-c", script, prefix});
    return killed ? ok_status() : Status(killed.error());
  }
  for (pid_t pid : processes_in({where_->fd()})) {
    UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    auto name = read_file(fmt::format("/proc/{}/comm", pid), 64);
    if (!process.valid() || !name || !name->starts_with(prefix)) continue;
    ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
    VMHOP_ASSIGN(short gone, wait_fd(process.get(), POLLIN, kKillTimeoutMs));
    if (gone == 0) return errorf("{} does not die", prefix);
  }
  return ok_status();
}

Result<nlohmann::json> VmhopHost::status(const std::string& vm) const {
  VMHOP_ASSIGN(Finished finished, command({"status", vm, "--json"}));
  nlohmann::json status = finished.json();
  if (!finished.status.clean() || !status.is_object()) {
    return Error("vmhop status: " + finished.describe());
  }
  return status;
}

Result<QmpClient> VmhopHost::monitor(Deadline deadline) const {
  VMHOP_ASSIGN(UniqueFd socket, connect_when_there(place().monitor, deadline));
  return QmpClient::over(std::move(socket), deadline);
}

Result<Finished> finish(Process& process, Deadline deadline) {
  auto status = process.wait(deadline);
  if (!status) {
    return status.error().with(last_lines(process.err(), 20));
  }
  return Finished{*status, process.out(), process.err()};
}

std::vector<std::string> sanitizer_reports(const std::string& lab) {
  std::vector<std::string> reports;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(lab)) {
    if (entry.path().stem() != "sanitizer") continue;
    auto text = read_file(entry.path(), kMaxReport);
    reports.push_back(text ? *text : text.error().message());
  }
  return reports;
}

}  // namespace vmhop::lab
