#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <cerrno>
#include <filesystem>

#include "tests/demo/venue.h"
#include "tests/lab/uml_host.h"

namespace vmhop::demo {
namespace {

using namespace std::chrono_literals;

// A helper of vmhop's is /proc/self/exe, and is called so.
constexpr const char* kWhoIsLeft =
    "for process in /proc/[0-9]*; do"
    "  read -r name 2>/dev/null <$process/comm || continue;"
    "  case $name in vmhop | exe | qemu-*) echo \"$name, process ${process#/proc/}\";; esac;"
    "done";

// Each host has one slow processor, where QEMU must emulate another one.
Conditions kernels() {
  Conditions conditions;
  conditions.description = "source and destination, a kernel each, with RDMA between them";
  conditions.tap = lab::UmlHost::kTap;
  conditions.client_interface = lab::UmlHost::kClientInterface;
  conditions.rdma_interface = "vec0";
  conditions.receive_options = {"--rdma-trusted"};
  conditions.relocate_options = {"--rdma-trusted", "--transport", "rdma"};
  conditions.ram_mib = 256;
  conditions.witness_mib = 32;
  conditions.wrk_connections = 2;
  conditions.probe_pause = 50ms;
  conditions.slowness = 4;
  return conditions;
}

class KernelVenue final : public Venue {
 public:
  KernelVenue(lab::UmlHost source, lab::UmlHost destination, lab::Namespace client,
              std::string directory, std::string vmhop)
      : source_(std::move(source)),
        destination_(std::move(destination)),
        client_(std::move(client)),
        directory_(std::move(directory)),
        vmhop_(std::move(vmhop)),
        conditions_(kernels()) {}
  ~KernelVenue() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  const Conditions& conditions() const override { return conditions_; }
  const std::string& directory() const override { return directory_; }
  Result<lab::VmhopHost> host(const std::string& name) const override {
    return lab::VmhopHost::create(name == source_.name() ? source_ : destination_, directory_,
                                  vmhop_);
  }
  const lab::Namespace& client() const override { return client_; }
  Result<lab::SharedDisk> make_disk() const override {
    return lab::SharedDisk::create(source_.lab_directory());
  }
  std::string path_for_guest(const lab::SharedDisk& /*disk*/) const override {
    return lab::UmlHost::kDisk;
  }
  Status nothing_runs_on(const lab::VmhopHost& host) const override {
    VMHOP_ASSIGN(std::string left, host.output_of({"bash", "-c", kWhoIsLeft}));
    return left.empty() ? ok_status() : Status(errorf("still there: {}", left));
  }

 private:
  lab::UmlHost source_;
  lab::UmlHost destination_;
  lab::Namespace client_;
  std::string directory_;
  std::string vmhop_;
  Conditions conditions_;
};

}  // namespace

Result<std::unique_ptr<Venue>> find_kernels(const std::string& vmhop) {
  VMHOP_ASSIGN(lab::UmlHost source, lab::UmlHost::find("source"));
  VMHOP_ASSIGN(lab::UmlHost destination, lab::UmlHost::find("destination"));
  VMHOP_ASSIGN(lab::Namespace client, lab::Namespace::current());
  std::string directory = "/tmp/vmhop-demo-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) {
    return Error::from_errno("mkdtemp " + directory, errno);
  }
  return std::unique_ptr<Venue>(new KernelVenue(std::move(source), std::move(destination),
                                                std::move(client), std::move(directory), vmhop));
}

}  // namespace vmhop::demo
