// `vmhop relocate NAME ssh://HOST` with RDMA between the two kernels: the receiving side is started
// by ssh's server, not by the lab.
#include <filesystem>
#include <thread>

#include "cli/vm_record.h"
#include "tests/lab/ssh_server.h"
#include "tests/rdma/hosts_relocate.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class HostsRelocateBySsh : public HostsRelocate {
 protected:
  void SetUp() override {
    HostsRelocate::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_VALUE(ssh_, SshServer::start(*destination_));
  }
  // What ssh started is nobody's child any more.
  void TearDown() override {
    if (ssh_) EXPECT_OK(ssh_->stop());
    EXPECT_OK(end_supervisor());
    HostsRelocate::TearDown();
  }

  std::vector<std::string> command(const std::vector<std::string>& options) const {
    std::vector<std::string> all = {"relocate", kVm, ssh_->url(), "--ssh", ssh_->client()};
    all.insert(all.end(), {"--remote-vmhop", lab_vmhop(), "--json"});
    all.insert(all.end(), {"--map", source_->address() + "=" + destination_->address()});
    all.insert(all.end(), options.begin(), options.end());
    return all;
  }
  std::string there() const { return destination_->runtime_directory() + "/" + kVm; }

  std::unique_ptr<SshServer> ssh_;

 private:
  Status end_supervisor() const {
    auto record = read_vm_record(there());
    if (!record) return ok_status();
    VMHOP_ASSIGN(std::string asked,
                 destination_->output_of({"kill", fmt::to_string(record->supervisor.pid)}));
    for (Deadline deadline = within(kPatience); Clock::now() < deadline;) {
      if (!std::filesystem::exists(there())) return ok_status();
      std::this_thread::sleep_for(50ms);
    }
    return Error("the supervisor at the destination does not end");
  }
};

TEST_F(HostsRelocateBySsh, AVmByRdmaToAHostWhereNothingWasStarted) {
  ASSERT_NO_FATAL_FAILURE(boot());
  ASSERT_VALUE(relocating_, source_->start(command({"--rdma-trusted", "--transport", "rdma"})));
  ASSERT_OK(console_->attach(destination_->place().console, within(kPatience)));
  ASSERT_VALUE(Finished moved, finish(*relocating_, within(kPatience)));
  ASSERT_TRUE(moved.status.clean()) << moved.describe();
  EXPECT_EQ(moved.json().value("state", ""), "drained") << moved.describe();
  EXPECT_EQ(moved.json().value("transport", ""), "rdma") << moved.describe();
  EXPECT_GT(moved.json().value("registered_bytes", 0), 0) << moved.describe();
  // Nothing of ssh is in its way.
  ASSERT_OK(ssh_->stop());
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

// Trust is not the receiving side's own here: it is told by the source, or it is not there.
TEST_F(HostsRelocateBySsh, AVmByTcpWhenNobodySaidThatTheFabricIsTrusted) {
  ASSERT_NO_FATAL_FAILURE(boot());
  ASSERT_VALUE(relocating_, source_->start(command({})));
  ASSERT_OK(console_->attach(destination_->place().console, within(kPatience)));
  ASSERT_VALUE(Finished moved, finish(*relocating_, within(kPatience)));
  ASSERT_TRUE(moved.status.clean()) << moved.describe();
  EXPECT_EQ(moved.json().value("transport", ""), "tcp") << moved.describe();
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

}  // namespace
}  // namespace vmhop::lab
