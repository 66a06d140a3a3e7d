#include "cli/qemu_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace vmhop {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kMiB = 1 << 20;

Result<QemuCommand> translate(const std::string& arguments, VmRole role = VmRole::kRun,
                              Front front = Front::kPreload) {
  std::vector<std::string> command = {"qemu-system-x86_64"};
  std::istringstream words(arguments);
  for (std::string word; words >> word;)
    command.push_back(word);
  return QemuCommand::translate(command, role, front);
}

std::string argv(const QemuCommand& command) {
  QemuCommand::Places places{{}, "/r/f,s", "/r/q1", "/r/q2"};
  for (size_t i = 0; i < command.regions().size(); ++i)
    places.memory_fds.push_back(static_cast<int>(10 + i));
  std::string text;
  for (const std::string& word : command.argv(places))
    text += (text.empty() ? "" : " ") + word;
  return text;
}

TEST(QemuCommand, DashMAloneGetsABackendAndMonitors) {
  auto command = translate("-M q35,accel=tcg -m 64").value();
  EXPECT_THAT(command.regions(), ElementsAre(RegionSpec{"vmhop-ram", 64 * kMiB}));
  EXPECT_EQ(argv(command),
            "qemu-system-x86_64 -M q35,accel=tcg -m 64 "
            "-object memory-backend-file,id=vmhop-ram,size=67108864,share=on,"
            "mem-path=/proc/self/fd/10 "
            "-machine memory-backend=vmhop-ram "
            "-chardev socket,id=vmhop-qmp-1,path=/r/q1,server=on,wait=off "
            "-mon chardev=vmhop-qmp-1,mode=control "
            "-chardev socket,id=vmhop-qmp-2,path=/r/q2,server=on,wait=off "
            "-mon chardev=vmhop-qmp-2,mode=control");
}

TEST(QemuCommand, ReadsEverySpellingOfDashM) {
  auto size = [](const std::string& arguments) {
    return translate(arguments).value().regions().at(0).size;
  };
  EXPECT_EQ(size("-m 1024"), 1024 * kMiB);
  EXPECT_EQ(size("--m 1G"), 1024 * kMiB);
  EXPECT_EQ(size("-m size=1G,slots=2,maxmem=4G"), 1024 * kMiB);
  EXPECT_EQ(size("-m slots=2,maxmem=4G"), 128 * kMiB);
  EXPECT_EQ(size("-m 64 -m 256"), 256 * kMiB);
  EXPECT_EQ(size("-M q35"), 128 * kMiB);
  EXPECT_EQ(size("-m 4097B"), 8192U);
}

TEST(QemuCommand, TellsQemuTheDefaultSize) {
  EXPECT_THAT(argv(translate("-M q35").value()), HasSubstr(" -m size=128M "));
}

TEST(QemuCommand, ReceivingWaitsPaused) {
  EXPECT_THAT(argv(translate("-m 64", VmRole::kReceive).value()),
              testing::EndsWith(" -incoming defer -S"));
  EXPECT_THAT(argv(translate("-m 64").value()), Not(HasSubstr("-incoming")));
}

TEST(QemuCommand, KeepsAPausedStart) {
  EXPECT_THAT(argv(translate("-S -m 64").value()), HasSubstr(" -S "));
}

TEST(QemuCommand, OnePostcopyObjectBecomesTheMachinesRam) {
  auto command =
      translate("-object memory-backend-postcopy,id=ram0,size=64M,share=on,merge=off").value();
  EXPECT_THAT(command.regions(), ElementsAre(RegionSpec{"ram0", 64 * kMiB}));
  EXPECT_THAT(argv(command),
              HasSubstr("memory-backend-file,id=ram0,size=67108864,share=on,merge=off,"
                        "mem-path=/proc/self/fd/10 -machine memory-backend=ram0 -m size=64M"));
  EXPECT_THAT(argv(command), Not(HasSubstr("postcopy")));
}

TEST(QemuCommand, ReadsAnObjectInJson) {
  std::vector<std::string> words = {
      "qemu", "-object", R"({"qom-type":"memory-backend-postcopy","id":"r","size":67108864})"};
  auto command = QemuCommand::translate(words, VmRole::kRun, Front::kPreload).value();
  EXPECT_THAT(command.regions(), ElementsAre(RegionSpec{"r", 64 * kMiB}));
}

TEST(QemuCommand, RespectsTheMachinesOwnChoice) {
  auto command =
      translate("-M q35,memory-backend=r -object memory-backend-postcopy,id=r,size=64M -m 64")
          .value();
  EXPECT_THAT(argv(command), Not(HasSubstr("-machine memory-backend=r")));
}

TEST(QemuCommand, SeveralObjectsGoToNodes) {
  auto command = translate(
                     "-object memory-backend-postcopy,id=a,size=32M "
                     "-object memory-backend-postcopy,id=b,size=96M "
                     "-numa node,memdev=a -numa node,nodeid=1,memdev=b")
                     .value();
  EXPECT_THAT(command.regions(),
              ElementsAre(RegionSpec{"a", 32 * kMiB}, RegionSpec{"b", 96 * kMiB}));
  EXPECT_THAT(argv(command), HasSubstr("mem-path=/proc/self/fd/11"));
  EXPECT_THAT(argv(command), HasSubstr("-m size=128M"));
  EXPECT_THAT(argv(command), Not(HasSubstr("-machine memory-backend")));
}

TEST(QemuCommand, MemoryOfADeviceIsNotTheMachines) {
  auto command = translate(
                     "-m 64,slots=1,maxmem=1G -object memory-backend-postcopy,id=d,size=32M "
                     "-device pc-dimm,memdev=d")
                     .value();
  EXPECT_THAT(command.regions(),
              ElementsAre(RegionSpec{"d", 32 * kMiB}, RegionSpec{"vmhop-ram", 64 * kMiB}));
}

TEST(QemuCommand, DoublesCommasInPaths) {
  std::vector<std::string> words = {"qemu", "-m", "64"};
  auto command = QemuCommand::translate(words, VmRole::kRun, Front::kPreload).value();
  EXPECT_THAT(command.argv({{5}, "", "/a,b/q1", "/a,b/q2"}),
              testing::Contains("socket,id=vmhop-qmp-1,path=/a,,b/q1,server=on,wait=off"));
}

TEST(QemuCommand, LeavesTheObjectToAQemuThatHasIt) {
  std::string arguments =
      "-object memory-backend-postcopy,id=a,size=64M,share=on,hugetlb=on,hugetlbsize=2M,merge=off";
  auto run = translate(arguments, VmRole::kRun, Front::kObject).value();
  EXPECT_THAT(run.regions(), ElementsAre(RegionSpec{"a", 64 * kMiB, true, 2 * kMiB}));
  EXPECT_THAT(argv(run), HasSubstr("-object memory-backend-postcopy,id=a,size=67108864,hugetlb=on,"
                                   "hugetlbsize=2097152,merge=off -machine"));
  auto receive = translate("-m 64", VmRole::kReceive, Front::kObject).value();
  EXPECT_THAT(argv(receive), HasSubstr("-object memory-backend-postcopy,id=vmhop-ram,size=67108864,"
                                       "pager=/r/f,,s -machine memory-backend=vmhop-ram"));
}

TEST(QemuCommand, PutsHugePagesOnTheMemoryFileForAStockQemu) {
  auto command = translate("-object memory-backend-postcopy,id=a,size=64M,hugetlb=on").value();
  EXPECT_THAT(command.regions(), ElementsAre(RegionSpec{"a", 64 * kMiB, true, 0}));
  EXPECT_THAT(argv(command), Not(HasSubstr("hugetlb")));
}

struct Refused {
  const char* name;
  const char* arguments;
  const char* cause;
  const char* remedy;
};

void PrintTo(const Refused& param, std::ostream* out) {
  *out << param.name;
}

class QemuCommandRefuses : public testing::TestWithParam<Refused> {};

TEST_P(QemuCommandRefuses, NamingCauseAndRemedy) {
  auto command = translate(GetParam().arguments);
  ASSERT_FALSE(command.ok());
  EXPECT_EQ(command.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(command.error().message(), HasSubstr(GetParam().cause));
  EXPECT_THAT(command.error().message(), HasSubstr(GetParam().remedy));
}

INSTANTIATE_TEST_SUITE_P(
    QemuCommand, QemuCommandRefuses,
    testing::Values(
        Refused{"prealloc", "-object memory-backend-postcopy,id=a,size=64M,prealloc=on",
                "prealloc=on", "Leave prealloc out"},
        Refused{"mem_prealloc", "-m 64 -mem-prealloc", "-mem-prealloc", "out"},
        Refused{"mem_lock", "-m 64 -overcommit mem-lock=on", "mem-lock=on", "out"},
        Refused{"share_off", "-object memory-backend-postcopy,id=a,size=64M,share=off", "share=off",
                "share=on"},
        Refused{"discard_data", "-object memory-backend-postcopy,id=a,size=64M,discard-data=on",
                "discard-data=on", "Leave discard-data out"},
        Refused{"mem_path", "-m 64 -mem-path /dev/shm", "-mem-path", "out"},
        Refused{"ram_backend", "-object memory-backend-ram,id=a,size=64M", "memory-backend-ram",
                "memory-backend-postcopy,id=a"},
        Refused{"file_backend", "-object memory-backend-file,id=a,size=64M,mem-path=/x",
                "memory-backend-file", "memory-backend-postcopy"},
        Refused{"memfd_backend", "-object memory-backend-memfd,id=a,size=64M",
                "memory-backend-memfd", "memory-backend-postcopy"},
        Refused{"epc_backend", "-object memory-backend-epc,id=a,size=64M", "memory-backend-epc",
                "memory-backend-postcopy"},
        Refused{"vfio", "-device vfio-pci,host=01:00.0", "vfio-pci", "emulated"},
        Refused{"vhost_user_device", "-device vhost-user-fs-pci,chardev=c", "vhost-user-fs-pci",
                "virtio"},
        Refused{"vhost_vdpa_device", "-device vhost-vdpa-device-pci,vhostdev=/dev/x",
                "vhost-vdpa-device-pci", "virtio"},
        Refused{"vhost_user_net", "-netdev vhost-user,id=n,chardev=c", "vhost-user", "vhost=on"},
        Refused{"vhost_user_nic", "-nic vhost-user,chardev=c", "vhost-user", "vhost=on"},
        Refused{"vhost_vdpa_net", "-netdev type=vhost-vdpa,id=n", "vhost-vdpa", "virtio"},
        Refused{"incoming", "-m 64 -incoming defer", "-incoming", "vmhop receive"},
        Refused{"daemonize", "-daemonize", "-daemonize", "background"},
        Refused{"readconfig", "-readconfig file", "-readconfig", "command line"},
        Refused{"snapshot", "-snapshot", "-snapshot", "overlay"},
        Refused{"drive_snapshot", "-drive file=x,snapshot=on", "snapshot=on", "overlay"},
        Refused{"encryption", "-machine q35,memory-encryption=sev0", "memory-encryption", "out"},
        Refused{"confidential", "-M q35,confidential-guest-support=sev0",
                "confidential-guest-support", "out"},
        Refused{"loader_data", "-device loader,addr=0x100,data=5,data-len=4",
                "loader,data=", "file="},
        Refused{"machine_memory", "-M q35,memory.size=1G", "memory.size", "-m"},
        Refused{"other_sum", "-m 64 -object memory-backend-postcopy,id=a,size=32M", "64 MiB",
                "leave -m out"},
        Refused{"no_node",
                "-object memory-backend-postcopy,id=a,size=32M "
                "-object memory-backend-postcopy,id=b,size=32M",
                "2 memory backends", "-numa node,memdev=ID"},
        Refused{"unknown_backend", "-numa node,memdev=x", "x names a memory backend",
                "add -object"},
        Refused{"twice",
                "-object memory-backend-postcopy,id=a,size=32M "
                "-object memory-backend-postcopy,id=a,size=32M",
                "used twice", "a"},
        Refused{"bad_size", "-m lots", "'lots'", "512M"},
        Refused{"too_much", "-m 0xffffffffffffffff", "0xffffffffffffffff", "512M"},
        Refused{"rounded_to_nothing", "-m 18446744073709551614B", "18446744073709551614B", "more"},
        Refused{"too_large", "-object memory-backend-postcopy,id=a,size=8192P",
                "9223372036854775808", "more"},
        Refused{"hidden_property",
                "-object memory-backend-postcopy,id=a,size=32M,host-nodes.,,share=off",
                "host-nodes.,share", "not known"},
        Refused{"huge_size",
                "-object memory-backend-postcopy,id=a,size=3M,hugetlb=on,hugetlbsize=2M",
                "hugetlbsize=2097152", "divides"},
        Refused{"huge_unreserved",
                "-object memory-backend-postcopy,id=a,size=4M,hugetlb=on,reserve=off",
                "reserve=off", "Leave reserve out"},
        Refused{"no_size", "-object memory-backend-postcopy,id=a", "size=", "4096"},
        Refused{"bad_id", "-object memory-backend-postcopy,id=1,size=32M", "'1'", "letters"},
        Refused{"unknown_property", "-object memory-backend-postcopy,id=a,size=32M,colour=red",
                "colour", "host-nodes"}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(QemuCommand, RefusesWithoutAProgram) {
  EXPECT_FALSE(
      QemuCommand::translate(std::vector<std::string>{"-m", "64"}, VmRole::kRun, Front::kPreload)
          .ok());
  EXPECT_FALSE(
      QemuCommand::translate(std::vector<std::string>{}, VmRole::kRun, Front::kPreload).ok());
}

TEST(QemuCommand, RefusesOtherSourcesOfStateWhenReceiving) {
  EXPECT_TRUE(translate("-m 64 -loadvm s").ok());
  EXPECT_FALSE(translate("-m 64 -loadvm s", VmRole::kReceive).ok());
  EXPECT_FALSE(translate("-m 64 -preconfig", VmRole::kReceive).ok());
}

TEST(QemuCommand, LeavesTheRestAlone) {
  const char* arguments =
      "-drive file=x,if=virtio -netdev tap,id=n,vhost=on -device virtio-net-pci,netdev=n "
      "-chardev socket,id=c,path=/x -nographic -cpu host";
  EXPECT_THAT(argv(translate(arguments).value()), HasSubstr(arguments));
}

}  // namespace
}  // namespace vmhop
