#include "cli/runtime_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "cli/switch_record.h"
#include "cli/vm_record.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(RuntimeBase, IsTheUsersChoice) {
  ::setenv("VMHOP_RUNTIME_DIR", "/somewhere", 1);
  EXPECT_EQ(runtime_base().value(), "/somewhere");
  ::setenv("VMHOP_RUNTIME_DIR", "elsewhere", 1);
  EXPECT_FALSE(runtime_base().ok());
  ::unsetenv("VMHOP_RUNTIME_DIR");
}

TEST(VmNames, AreCheckedBeforeTheyBecomePaths) {
  for (const char* good : {"a", "web-1", "A.b_c", "0"})
    EXPECT_TRUE(check_vm_name("/run/vmhop", good).ok()) << good;
  for (const char* bad : {"", ".", "..", "-a", "_a", "a/b", "a b", "ä"})
    EXPECT_FALSE(check_vm_name("/run/vmhop", bad).ok()) << bad;
  EXPECT_FALSE(check_vm_name("/run/vmhop", std::string(65, 'a')).ok());
  auto too_long = check_vm_name("/" + std::string(90, 'd'), "name");
  ASSERT_FALSE(too_long.ok());
  EXPECT_THAT(too_long.error().message(), HasSubstr("VMHOP_RUNTIME_DIR"));
}

class NameClaimTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  std::string base_ = directory_.path() + "/vmhop";
};

TEST_F(NameClaimTest, MakesAPrivateDirectory) {
  auto claim = NameClaim::take(base_, "vm").value();
  struct stat info {};
  ASSERT_EQ(::stat(claim.paths().directory().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  EXPECT_THAT(list_vm_names(base_), ElementsAre("vm"));
}

TEST_F(NameClaimTest, IsForOneHolderAtATime) {
  auto claim = NameClaim::take(base_, "vm").value();
  auto second = NameClaim::take(base_, "vm");
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(second.error().message(), HasSubstr("vmhop status vm"));
}

TEST_F(NameClaimTest, IsFreeAgainOnceRemoved) {
  auto claim = NameClaim::take(base_, "vm").value();
  claim.remove();
  EXPECT_FALSE(std::filesystem::exists(base_ + "/vm"));
  EXPECT_TRUE(NameClaim::take(base_, "vm").ok());
}

TEST_F(NameClaimTest, CleansUpAfterTheDead) {
  std::filesystem::create_directories(base_ + "/vm");
  std::filesystem::permissions(base_, std::filesystem::perms::owner_all);
  std::filesystem::permissions(base_ + "/vm", std::filesystem::perms::owner_all);
  std::ofstream(base_ + "/vm/vm.json") << "{}";
  std::ofstream(base_ + "/vm/commit") << "{}";
  ASSERT_TRUE(NameClaim::take(base_, "vm").ok());
  EXPECT_FALSE(std::filesystem::exists(base_ + "/vm/commit"));
}

TEST_F(NameClaimTest, IsNotTakenFromALivingExporter) {
  NameClaim::take(base_, "vm").value().remove();
  std::filesystem::create_directory(base_ + "/vm");
  std::filesystem::permissions(base_ + "/vm", std::filesystem::perms::owner_all);
  auto exporter = listen_unix(base_ + "/vm/exporter.sock", SOCK_SEQPACKET).value();
  auto claim = NameClaim::take(base_, "vm");
  ASSERT_FALSE(claim.ok());
  EXPECT_THAT(claim.error().message(), HasSubstr("vmhop drop vm"));
}

TEST_F(NameClaimTest, IsNotTakenFromALivingQemu) {
  NameClaim::take(base_, "vm").value().remove();
  std::filesystem::create_directory(base_ + "/vm");
  std::filesystem::permissions(base_ + "/vm", std::filesystem::perms::owner_all);
  VmRecord record;
  record.vm = "vm";
  record.qemu = identify_process(::getpid()).value();
  ASSERT_TRUE(write_vm_record(base_ + "/vm", record).ok());
  auto claim = NameClaim::take(base_, "vm");
  ASSERT_FALSE(claim.ok());
  EXPECT_THAT(claim.error().message(), HasSubstr("QEMU"));
  // The same number, but another process: that one is dead.
  record.qemu.start_time += 1;
  ASSERT_TRUE(write_vm_record(base_ + "/vm", record).ok());
  EXPECT_TRUE(NameClaim::take(base_, "vm").ok());
}

TEST_F(NameClaimTest, RefusesADirectoryThatOthersMayWriteTo) {
  std::filesystem::create_directory(base_);
  std::filesystem::permissions(base_, std::filesystem::perms::all);
  EXPECT_FALSE(NameClaim::take(base_, "vm").ok());
}

TEST(SwitchRecord, SaysWhereTheCredentialsAre) {
  TemporaryDirectory directory;
  SwitchRecord record;
  record.found_in_qemu = nlohmann::json::object();
  record.credentials = {"", "/etc/tls", {"host-b"}};
  ASSERT_TRUE(write_switch_record(directory.path(), record).ok());
  auto read = read_switch_record(directory.path());
  ASSERT_TRUE(read.ok() && *read);
  EXPECT_EQ((*read)->credentials, record.credentials);
}

TEST(VmRecord, ReadsBackWhatWasWritten) {
  TemporaryDirectory directory;
  VmRecord record{"vm",
                  "run",
                  {1, 2},
                  {3, 4},
                  {5, 6},
                  {7, 8},
                  {"qemu", "-m"},
                  {{"r", 8192, 4096, 0x7000}},
                  "there:4000",
                  "preload",
                  ":4000",
                  {"/etc/key", "/etc/tls", {"host-a"}},
                  {TransportChoice::kTcp, true}};
  ASSERT_TRUE(write_vm_record(directory.path(), record).ok());
  auto read = read_vm_record(directory.path());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->qemu, record.qemu);
  EXPECT_EQ(read->pager, record.pager);
  EXPECT_EQ(read->argv, record.argv);
  EXPECT_EQ(read->regions, record.regions);
  EXPECT_EQ(read->peer, record.peer);
  EXPECT_EQ(read->front, record.front);
  EXPECT_EQ(read->listen, record.listen);
  EXPECT_EQ(read->credentials, record.credentials);
  EXPECT_EQ(read->transport, record.transport);
}

// Cast to a pid_t it would be -1, which is everybody.
TEST(VmRecord, NamesNoProcessBeyondWhatCanBeOne) {
  TemporaryDirectory directory;
  std::ofstream(directory.path() + "/vm.json") << R"({"qemu":{"pid":4294967295,"start_time":7}})";
  EXPECT_EQ(read_vm_record(directory.path())->qemu.pid, 0);
}

TEST(VmRecord, IsNothingWhenBroken) {
  TemporaryDirectory directory;
  EXPECT_FALSE(read_vm_record(directory.path()));
  std::ofstream(directory.path() + "/vm.json") << "not JSON";
  EXPECT_FALSE(read_vm_record(directory.path()));
  std::ofstream(directory.path() + "/vm.json") << R"({"qemu":7,"argv":"x","regions":[3]})";
  EXPECT_TRUE(read_vm_record(directory.path()));
}

}  // namespace
}  // namespace vmhop
