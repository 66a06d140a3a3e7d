// A destination whose command line cannot work is refused as it is started, with cause and remedy,
// and the VM that was to come runs on.
#include "cli/exit_codes.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

struct BadCommand {
  std::string name;
  std::vector<std::string> added;  // to what would be right
  std::string cause;
  std::string remedy;
};

void PrintTo(const BadCommand& command, std::ostream* out) {
  *out << command.name;
}

class RefusedCommand : public HopTest, public testing::WithParamInterface<BadCommand> {};

TEST_P(RefusedCommand, OfADestination) {
  ASSERT_OK(boot());
  BaremetalGuest unfit = guest_;
  unfit.more = GetParam().added;
  ASSERT_VALUE(receiving_,
               destination_->start_receiving(kVm, unfit.qemu_command(destination_->place())));
  ASSERT_VALUE(Finished refused, finish(*receiving_, within(std::chrono::seconds(30))));
  EXPECT_EQ(refused.status.shell_code(), kExitSupervisor) << refused.describe();
  EXPECT_NE(refused.err.find(GetParam().cause), std::string::npos) << refused.describe();
  EXPECT_NE(refused.err.find(GetParam().remedy), std::string::npos) << refused.describe();
  EXPECT_OK(nothing_left_at("destination"));
  EXPECT_OK(runs_on_at_source());
}

INSTANTIATE_TEST_SUITE_P(
    Options, RefusedCommand,
    testing::Values(
        BadCommand{"AllMemoryTouchedAtOnce",
                   {"-mem-prealloc"},
                   "touches all of RAM before the pages have arrived",
                   "Leave -mem-prealloc out"},
        BadCommand{"ABackendTouchedAtOnce",
                   {"-object", "memory-backend-postcopy,id=ram,size=128M,prealloc=on"},
                   "touches pages that have not arrived",
                   "Leave prealloc out"},
        BadCommand{"Vfio",
                   {"-device", "vfio-pci,host=0000:00:01.0"},
                   "-device vfio-pci cannot be relocated: it pins all of the VM's memory",
                   "Use an emulated device"},
        BadCommand{"VhostUser",
                   {"-chardev", "socket,id=switch,path=/run/switch", "-netdev",
                    "vhost-user,id=net,chardev=switch"},
                   "vhost-user cannot be relocated: it maps the VM's memory in another process",
                   "Use QEMU's own virtio device"},
        BadCommand{"MemoryThatIsNotVmhops",
                   {"-object", "memory-backend-ram,id=ram,size=128M"},
                   "-object memory-backend-ram cannot be relocated",
                   "Use -object memory-backend-postcopy,id=ram"}),
    [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace vmhop::lab
