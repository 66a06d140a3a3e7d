#include "tests/lab/vmhop_host.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>

namespace vmhop::lab {
namespace {

// QEMU has to start, on a machine that may be busy.
constexpr std::chrono::seconds kStartTimeout{60};
constexpr std::chrono::seconds kCommandTimeout{60};

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

nlohmann::json Finished::json() const {
  return nlohmann::json::parse(last_lines(out, 1), nullptr, false);
}

std::string Finished::describe() const {
  return fmt::format("it {}\nstandard output:\n{}standard error:\n{}", status.describe(),
                     last_lines(out, 20), last_lines(err, 20));
}

Result<VmhopHost> VmhopHost::create(const Network& network, const std::string& name,
                                    const std::string& vmhop) {
  std::string directory = network.directory() + "/" + name;
  VMHOP_TRY(make_directory(directory));
  std::string key = network.directory() + "/key";
  if (!std::filesystem::exists(key)) {
    auto made = run_tool(network.directory(), {vmhop, "keygen", key});
    if (!made) return made.error();
  }
  return VmhopHost(network.host(name), name, directory, network.address(name), key, vmhop);
}

ProcessSpec VmhopHost::spec_for(const std::vector<std::string>& arguments) const {
  static std::atomic<unsigned> count{0};
  ProcessSpec spec;
  spec.argv = {vmhop_};
  append(spec.argv, arguments);
  spec.where = where_;
  spec.environment = environment_;
  spec.output = fmt::format("{}/{:02}-{}", directory_, ++count, arguments[0]);
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
  bool named = std::find(options.begin(), options.end(), "--key") != options.end();
  if (!named) append(options, {"--key", key_});
  return options;
}

Result<Process> VmhopHost::run(const std::string& vm, const std::vector<std::string>& qemu) const {
  std::vector<std::string> arguments = {"run", vm, "--"};
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

Result<nlohmann::json> VmhopHost::status(const std::string& vm) const {
  VMHOP_ASSIGN(Finished finished, command({"status", vm, "--json"}));
  nlohmann::json status = finished.json();
  if (!finished.status.clean() || !status.is_object()) {
    return Error("vmhop status: " + finished.describe());
  }
  return status;
}

Result<QmpClient> VmhopHost::monitor(Deadline deadline) const {
  return QmpClient::connect(place().monitor, deadline);
}

Result<Finished> finish(Process& process, Deadline deadline) {
  auto status = process.wait(deadline);
  if (!status) {
    return status.error().with(last_lines(process.err(), 20));
  }
  return Finished{*status, process.out(), process.err()};
}

}  // namespace vmhop::lab
