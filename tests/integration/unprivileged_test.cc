// docs/non-root.md, done: a user without any privilege runs, receives and relocates VMs.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kNobody = 65534;
constexpr const char* kDevice = "/dev/userfaultfd";
constexpr const char* kSysctl = "/proc/sys/vm/unprivileged_userfaultfd";

// $1 is an empty directory. In a mount namespace of its own the user is given the device, as a udev
// rule would do it for good.
constexpr const char* kLauncher = R"(
set -e
if [ -e /dev/userfaultfd ]; then
  mount -t tmpfs -o mode=0755 devices "$1"
  cp -a /dev/userfaultfd "$1/userfaultfd"
  chown 65534 "$1/userfaultfd"
  mount --bind "$1/userfaultfd" /dev/userfaultfd
fi
shift
exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --no-new-privs -- "$@"
)";

class Unprivileged : public HopTest {
 protected:
  void SetUp() override {
    HopTest::SetUp();
    if (HasFatalFailure()) return;
    // Where the build is, this user may have no access.
    std::string lab = network_->directory();
    for (const char* folder : {"/cli", "/qemu-memory-backend", "/devices"})
      fs::create_directory(lab + folder);
    fs::path build = fs::path(lab_vmhop()).parent_path().parent_path();
    fs::copy_file(lab_vmhop(), lab + "/cli/vmhop");
    fs::copy_file(build / "qemu-memory-backend/libvmhop-preload.so",
                  lab + "/qemu-memory-backend/libvmhop-preload.so");
    fs::copy_file(guest_.kernel, lab + "/kernel");
    guest_.kernel = lab + "/kernel";
    if (::access(kDevice, F_OK) != 0) permit_by_sysctl();

    for (auto* host : {&source_, &destination_})
      ASSERT_OK(make_unprivileged(*host));
    for (const std::string& path : {lab, source_->key()})
      ASSERT_EQ(::chown(path.c_str(), kNobody, kNobody), 0);
  }
  void TearDown() override {
    HopTest::TearDown();
    if (!sysctl_before_.empty()) std::ofstream(kSysctl) << sysctl_before_;
  }

  void permit_by_sysctl() {
    ASSERT_VALUE(sysctl_before_, read_file(kSysctl, 16));
    std::ofstream(kSysctl) << "1\n";
  }

  // The same host again, with the user's copy of the program.
  Status make_unprivileged(std::optional<VmhopHost>& host) {
    std::string name = host->name();
    fs::remove_all(host->directory());
    VMHOP_ASSIGN(host, VmhopHost::create(*network_, name, network_->directory() + "/cli/vmhop"));
    std::string devices = network_->directory() + "/devices";
    host->set_launcher({"unshare", "--mount", "sh", "-c", kLauncher, "launcher", devices});
    if (::chown(host->directory().c_str(), kNobody, kNobody) != 0) {
      return Error::from_errno("chown", errno);
    }
    return ok_status();
  }

  // Of all that runs at that host.
  void expect_no_privileges(const std::string& host) {
    for (pid_t pid : processes_in({network_->host(host).fd()})) {
      auto status = read_file(fmt::format("/proc/{}/status", pid), 1 << 16);
      if (!status) continue;  // it has just ended
      EXPECT_NE(status->find("\nUid:\t65534\t65534\t65534\t65534\n"), std::string::npos) << *status;
      EXPECT_NE(status->find("\nCapEff:\t0000000000000000\n"), std::string::npos) << *status;
    }
  }

  std::string sysctl_before_;
};

TEST_F(Unprivileged, UsersRelocateTheirVms) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  expect_no_privileges("source");
  expect_no_privileges("destination");
  ASSERT_OK(relocates_well());
}

}  // namespace
}  // namespace vmhop::lab
