// Pager and exporter at work by RDMA, with all that they have given up: neither connecting nor
// connecting again needs any of it.
#include <filesystem>
#include <sstream>

#include "cli/vm_record.h"
#include "tests/rdma/hosts_relocate.h"

namespace vmhop::lab {
namespace {

class HostsConfined : public HostsRelocate {
 protected:
  // Neither RDMA nor the session gets through. What the lab itself has to say to the hosts does.
  void part() {
    ASSERT_VALUE(std::string blocked, source_->output_of(route("add")));
    parted_ = true;
    ASSERT_OK(source_kernel_->cut());
  }
  // RDMA is there again before anybody can dial.
  void join() {
    parted_ = false;
    ASSERT_OK(source_kernel_->join());
    for (const VmhopHost* host : {&*source_, &*destination_}) {
      ASSERT_VALUE(std::string flushed, host->output_of({"ip", "neigh", "flush", "dev", "vec0"}));
    }
    ASSERT_VALUE(std::string open, source_->output_of(route("del")));
  }
  void TearDown() override {
    if (parted_) join();
    HostsRelocate::TearDown();
  }

  // Each of its threads, and what it can still do.
  void expect_confined(const VmhopHost& host, ProcessIdentity VmRecord::*who) {
    auto record = read_vm_record(host.runtime_directory() + "/" + kVm);
    ASSERT_TRUE(record.has_value());
    auto pid = fmt::to_string((*record.*who).pid);
    ASSERT_VALUE(std::string threads,
                 host.output_of({"sh", "-c", "cat /proc/$0/task/*/status", pid}));
    EXPECT_GT(count_of(threads, "Pid:\t"), 1U) << threads;
    for (const char* mark : {"Seccomp:\t2", "NoNewPrivs:\t1"})
      EXPECT_EQ(count_of(threads, mark), count_of(threads, "Pid:\t")) << threads;

    std::string made = directory_ + "/made-by-" + pid;
    ASSERT_VALUE(std::string ended, host.output_of({VMHOP_LAB_MKDIR_AS, pid, made}));
    EXPECT_EQ(ended, "Permission denied\n") << "Landlock lets it make directories";
    EXPECT_FALSE(std::filesystem::exists(made));
  }
  static size_t count_of(const std::string& text, std::string_view line) {
    std::istringstream lines(text);
    size_t count = 0;
    for (std::string each; std::getline(lines, each);)
      count += each.starts_with(line) ? 1 : 0;
    return count;
  }

 private:
  std::vector<std::string> route(const std::string& verb) const {
    return {"ip", "route", verb, "blackhole", destination_kernel_->address()};
  }

  bool parted_ = false;
};

TEST_F(HostsConfined, RelocateByRdmaAndConnectAgainByRdma) {
  ASSERT_NO_FATAL_FAILURE(start_slow_hop());
  ASSERT_NO_FATAL_FAILURE(expect_confined(*destination_, &VmRecord::pager));
  ASSERT_NO_FATAL_FAILURE(expect_confined(*source_, &VmRecord::exporter));

  ASSERT_NO_FATAL_FAILURE(part());
  ASSERT_OK(wait_for_status(*source_, link_is_down));
  ASSERT_NO_FATAL_FAILURE(join());
  ASSERT_OK(wait_for_status(*source_, [](const nlohmann::json& status) {
    return status.value("link", false) && status.value("reconnects", 0) > 0;
  }));

  ASSERT_OK(speed_up());
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(kPatience)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
  EXPECT_EQ(relocated.json().value("transport", ""), "rdma") << relocated.describe();
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

// What expect_confined() says of them would not be said of others.
TEST_F(HostsConfined, AreToldFromTheUnconfined) {
  ASSERT_VALUE(Process other, source_->start_program({"sh", "-c", "echo $$; exec sleep 1000"}));
  ASSERT_OK(other.wait_for_out([](auto text) { return text.ends_with('\n'); }, within(kPatience)));
  std::string pid = other.out();
  pid.pop_back();
  std::string made = directory_ + "/made-by-sh";
  ASSERT_VALUE(std::string ended, source_->output_of({VMHOP_LAB_MKDIR_AS, pid, made}));
  EXPECT_EQ(ended, "made\n");
  EXPECT_TRUE(std::filesystem::exists(made));
}

}  // namespace
}  // namespace vmhop::lab
