// Runtime directories on disks that are full: the VM stays where it is, and says why.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>

#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using testing::HasSubstr;

using namespace std::chrono_literals;

constexpr auto kPatience = 60s;

class FullDisk : public HopTest {
 protected:
  // Before vmhop is first started there.
  Status give_small_disk(const VmhopHost& host) {
    std::filesystem::create_directories(host.runtime_directory());
    if (::mount("tmpfs", host.runtime_directory().c_str(), "tmpfs", MS_NOSUID | MS_NODEV,
                "size=128k,mode=0700") != 0) {
      return Error::from_errno("mounting a tmpfs", errno);
    }
    disks_.push_back(host.runtime_directory());
    return ok_status();
  }
  void TearDown() override {
    HopTest::TearDown();
    for (const std::string& disk : disks_)
      EXPECT_EQ(::umount2(disk.c_str(), MNT_DETACH), 0);
  }

  static std::string filler(const VmhopHost& host) { return host.runtime_directory() + "/filler"; }
  static Status fill(const VmhopHost& host) {
    UniqueFd file(::open(filler(host).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (!file.valid()) return Error::from_errno(filler(host), errno);
    std::string page(4096, 'x');
    for (int i = 0; i < 64; ++i)
      if (::write(file.get(), page.data(), page.size()) < 0 && errno == ENOSPC) return ok_status();
    return Error("the disk does not get full");
  }

 private:
  std::vector<std::string> disks_;
};

// There is no place for the page map, which the receiver says, and tries again.
TEST_F(FullDisk, AtTheDestinationLeavesTheVmWhereItIs) {
  ASSERT_OK(give_small_disk(*destination_));
  ASSERT_OK(fill(*destination_));
  ASSERT_OK(boot());
  ASSERT_VALUE(receiving_,
               destination_->receive(kVm, guest_.qemu_command(destination_->place()), {}));
  ASSERT_OK(receiving_->wait_for_err(
      [](auto text) {
        return text.find("a byte for each page, needs 33 KiB") != std::string_view::npos &&
               text.find("No space left on device") != std::string_view::npos;
      },
      within(kPatience)));
  ASSERT_VALUE(Finished refused, relocate());
  EXPECT_FALSE(refused.status.clean());
  EXPECT_OK(runs_on_at_source());
  ASSERT_TRUE(std::filesystem::remove(filler(*destination_)));
  receiving_->signal(SIGTERM);
  ASSERT_VALUE(Finished ended, finish(*receiving_, within(kPatience)));
  ASSERT_OK(await());
  EXPECT_OK(relocates_well());
}

TEST_F(FullDisk, AtTheSourceKeepsTheVm) {
  ASSERT_OK(give_small_disk(*source_));
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(fill(*source_));
  ASSERT_VALUE(Finished refused, relocate());
  EXPECT_FALSE(refused.status.clean());
  EXPECT_THAT(refused.describe(), HasSubstr("No space left on device"));
  EXPECT_OK(runs_on_at_source());
  ASSERT_TRUE(std::filesystem::remove(filler(*source_)));
  ASSERT_OK(await_again());
  EXPECT_OK(relocates_well());
}

// The commit cannot be recorded, so there is none.
TEST_F(FullDisk, AtTheSourceResumesTheVmThatIsStoppedAlready) {
  ASSERT_OK(give_small_disk(*source_));
  stop_before(*destination_, "read_point");
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(relocating_, start_relocation());
  ASSERT_VALUE(ProcessIdentity pager, wait_until_stopped(*destination_));
  ASSERT_OK(fill(*source_));
  ASSERT_OK(go_on(pager));
  ASSERT_VALUE(Finished failed, finish(*relocating_, within(kPatience)));
  EXPECT_FALSE(failed.status.clean());
  EXPECT_THAT(failed.describe(), HasSubstr("No space left on device"));
  EXPECT_OK(runs_on_at_source());
  ASSERT_TRUE(std::filesystem::remove(filler(*source_)));
  ASSERT_OK(await_again());
  EXPECT_OK(relocates_well());
}

}  // namespace
}  // namespace vmhop::lab
