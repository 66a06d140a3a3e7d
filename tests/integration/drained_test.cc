// Processes that are killed at the very moment at which a VM is drained, and at which it hops on.
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include <thread>

#include "cli/json_access.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 60s;

constexpr auto kSupervisor = &VmRecord::supervisor;
constexpr auto kExporter = &VmRecord::exporter;
constexpr auto kPager = &VmRecord::pager;

enum class At { kSource, kDestination, kThird };

struct Victim {
  At at;
  ProcessIdentity VmRecord::*who;
};

struct Moment {
  const char* name;
  At teller;  // whose exporter or pager is stopped at it
  std::vector<Victim> victims;

  bool kills(At at, ProcessIdentity VmRecord::*who) const {
    for (const Victim& victim : victims)
      if (victim.at == at && victim.who == who) return true;
    return false;
  }
};

void PrintTo(const Moment& moment, std::ostream* out) {
  *out << moment.name;
}

class AtAMoment : public HopTest, public testing::WithParamInterface<Moment> {
 protected:
  const VmhopHost& host(At at) const {
    return at == At::kSource ? *source_ : at == At::kDestination ? *destination_ : *third_;
  }

  // One that only has something to tell the other side is in no record any more.
  Status kill_helper(const VmhopHost& where, const std::string& role) {
    for (pid_t pid : processes_in({network_->host(where.name()).fd()})) {
      auto command = read_file(fmt::format("/proc/{}/cmdline", pid), 4096);
      if (!command || command->find("internal-" + role) == std::string::npos) continue;
      VMHOP_ASSIGN(ProcessIdentity helper, identify_process(pid));
      return signal_process(helper, SIGKILL);
    }
    return errorf("there is no {} at the {}", role, where.name());
  }

  // Where the pager had told its supervisor, nobody answers an exporter that had not heard it yet.
  // That one cannot know it, and tries for a while.
  Status end_unanswered_exporter() {
    bool unanswered =
        GetParam().teller == At::kSource && GetParam().kills(At::kDestination, kPager);
    if (!unanswered) return ok_status();
    VMHOP_ASSIGN(Finished heard, finish(*relocating_, within(kPatience)));
    return kill_helper(*source_, "exporter");
  }

  void kill_victims() {
    for (const Victim& victim : GetParam().victims) {
      if (victim.who == kPager) {
        ASSERT_OK(kill_helper(host(victim.at), "pager"));
      } else {
        ASSERT_OK(kill(host(victim.at), victim.who));
      }
    }
  }

  // A supervisor that was killed there has a successor, and the VM its end as a user would end it.
  void end_at(At at, std::optional<Process>& supervisor) {
    supervisor->signal(SIGTERM);
    ASSERT_VALUE(Finished ended, finish(*supervisor, within(kPatience)));
    if (at == At::kThird) {
      EXPECT_OK(no_process_left_at("third"));
    } else {
      EXPECT_OK(nothing_left_at(host(at).name()));
    }
  }

  std::optional<VmhopHost> third_;
  std::optional<Process> former_;  // QEMU is in its process group
};

class Drained : public AtAMoment {
 protected:
  void kill_at_the_moment();
};

void Drained::kill_at_the_moment() {
  bool at_source = GetParam().teller == At::kSource;
  stop_before(at_source ? *source_ : *destination_, "drained");
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(relocating_, start_relocation());
  ASSERT_VALUE(ProcessIdentity stopped, wait_until_stopped(host(GetParam().teller)));
  kill_victims();
  ASSERT_OK(go_on(stopped));
}

TEST_P(Drained, LosesNothing) {
  ASSERT_NO_FATAL_FAILURE(kill_at_the_moment());
  if (GetParam().kills(At::kDestination, &VmRecord::supervisor)) {
    ASSERT_OK(guest_goes_on());
    ASSERT_VALUE(former_, recover(*destination_));
    std::swap(*former_, *receiving_);
  }
  ASSERT_OK(runs_at_destination());
  if (GetParam().kills(At::kSource, &VmRecord::supervisor)) {
    EXPECT_OK(no_process_left_at("source"));
  } else {
    ASSERT_VALUE(Finished relocated, finish(*relocating_, within(kPatience)));
    EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
    ASSERT_VALUE(Finished ended, finish(*running_, within(kPatience)));
    EXPECT_TRUE(ended.status.clean()) << ended.describe();
    EXPECT_OK(end_unanswered_exporter());
    EXPECT_OK(nothing_left_at("source"));
  }
  end_at(At::kDestination, receiving_);
}

INSTANTIATE_TEST_SUITE_P(
    Where, Drained,
    testing::Values(
        Moment{"ThePagerDies", At::kDestination, {{At::kDestination, kPager}}},
        Moment{"ItsSupervisorDies", At::kDestination, {{At::kDestination, kSupervisor}}},
        Moment{"ItsSupervisorAndThePagerDie",
               At::kDestination,
               {{At::kDestination, kSupervisor}, {At::kDestination, kPager}}},
        Moment{"TheExporterDies", At::kSource, {{At::kSource, kExporter}}},
        Moment{"TheSourcesSupervisorDies", At::kSource, {{At::kSource, kSupervisor}}},
        Moment{"ThePagerDiesWhileTheSourceHearsIt", At::kSource, {{At::kDestination, kPager}}},
        Moment{"TheSupervisorDiesWhileTheSourceHearsIt",
               At::kSource,
               {{At::kDestination, kSupervisor}}}),
    [](const auto& tested) { return std::string(tested.param.name); });

class ExporterThatTakesItsTime : public HopTest {};

// On a busy disk its last record takes seconds, longer than those who wait for its word are kept.
TEST_F(ExporterThatTakesItsTime, LeavesNothingAtTheSource) {
  stop_after(*source_, "drained");
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(relocating_, start_relocation());
  ASSERT_VALUE(ProcessIdentity exporter, wait_until_stopped(*source_));
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(kPatience)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
  ASSERT_OK(go_on(exporter));
  ASSERT_VALUE(Finished ended, finish(*running_, within(kPatience)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  EXPECT_OK(nothing_left_at("source"));
}

using DrainedWithoutItsQemu = Drained;

// The VM is dead, and for the source it has arrived all the same.
TEST_P(DrainedWithoutItsQemu, KeepsNobodyWaiting) {
  ASSERT_NO_FATAL_FAILURE(kill_at_the_moment());
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(kPatience)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
  ASSERT_VALUE(Finished given_away, finish(*running_, within(kPatience)));
  EXPECT_TRUE(given_away.status.clean()) << given_away.describe();
  EXPECT_OK(nothing_left_at("source"));
  ASSERT_VALUE(Finished dead, finish(*receiving_, within(kPatience)));
  EXPECT_EQ(dead.status.shell_code(), 128 + SIGKILL) << dead.describe();
  EXPECT_OK(nothing_left_at("destination"));
}

INSTANTIATE_TEST_SUITE_P(
    Where, DrainedWithoutItsQemu,
    testing::Values(
        Moment{"ItDies", At::kDestination, {{At::kDestination, &VmRecord::qemu}}},
        Moment{"ItDiesWhileTheSourceHearsIt", At::kSource, {{At::kDestination, &VmRecord::qemu}}}),
    [](const auto& tested) { return std::string(tested.param.name); });

using DrainedWithoutItsSource = Drained;

// Its pager waits ten minutes for a source that has to hear it. That keeps nobody else from
// anything.
TEST_P(DrainedWithoutItsSource, NeedsNothingOfIt) {
  ASSERT_NO_FATAL_FAILURE(kill_at_the_moment());
  ASSERT_OK(runs_at_destination());
  EXPECT_OK(no_process_left_at("source"));
  ASSERT_VALUE(Finished dropped, source_->command({"drop", kVm, "--yes"}));
  EXPECT_TRUE(dropped.status.clean()) << dropped.describe();
  EXPECT_OK(nothing_left_at("source"));
  receiving_->signal(SIGTERM);
  ASSERT_VALUE(Finished ended, finish(*receiving_, within(kPatience)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  ASSERT_VALUE(std::optional<Process> namesake,
               destination_->run(kVm, guest_.qemu_command(destination_->place())));
  ASSERT_OK(wait_for_state(*destination_, "running"));
  namesake->signal(SIGTERM);
  ASSERT_VALUE(Finished over, finish(*namesake, within(kPatience)));
  ASSERT_OK(kill_helper(*destination_, "pager"));
  EXPECT_OK(nothing_left_at("destination"));
}

INSTANTIATE_TEST_SUITE_P(
    Where, DrainedWithoutItsSource,
    testing::Values(Moment{
        "BothItsEndsDie", At::kSource, {{At::kSource, kSupervisor}, {At::kSource, kExporter}}}),
    [](const auto& tested) { return std::string(tested.param.name); });

// Its supervisor had taken the record of the switch away, and not yet written that the VM is here.
class Arrival : public HopTest {
 protected:
  void arrive_unrecorded() {
    ASSERT_OK(boot());
    ASSERT_OK(await());
    ASSERT_OK(relocates_well());
    ASSERT_OK(kill(*destination_, kSupervisor));
    std::string directory = destination_->runtime_directory() + "/" + kVm;
    auto record = read_vm_record(directory);
    ASSERT_TRUE(record.has_value());
    ASSERT_EQ(record->role, "run");
    qemu_ = record->qemu;
    record->role = "receive";
    ASSERT_OK(write_vm_record(directory, *record));
  }

  ProcessIdentity qemu_;
};

// Without QEMU's word nobody can tell it from a VM that never came, which would be killed.
TEST_F(Arrival, IsLeftAloneWhileQemuDoesNotAnswer) {
  ASSERT_NO_FATAL_FAILURE(arrive_unrecorded());
  ASSERT_OK(signal_process(qemu_, SIGSTOP));
  ASSERT_VALUE(Process recovering,
               destination_->start({"recover", kVm, "--key", destination_->key()}));
  ASSERT_VALUE(Finished refused, finish(recovering, within(kPatience)));
  EXPECT_FALSE(refused.status.clean()) << refused.describe();
  ASSERT_TRUE(is_alive(qemu_));
  ASSERT_OK(signal_process(qemu_, SIGCONT));
  ASSERT_VALUE(std::optional<Process> successor, recover(*destination_));
  std::swap(*successor, *receiving_);
  EXPECT_OK(runs_at_destination());
}

TEST_F(Arrival, IsRecoveredThoughItsRecordIsNotWritten) {
  ASSERT_NO_FATAL_FAILURE(arrive_unrecorded());
  ASSERT_VALUE(std::optional<Process> successor, recover(*destination_));
  std::swap(*successor, *receiving_);
  EXPECT_OK(runs_at_destination());
}

// On to a third host while the first has not heard yet that the VM is drained: the processes of
// both hops are alive.
class HoppingOn : public AtAMoment {
 protected:
  HoppingOn() { network_spec_.hosts = {"source", "destination", "third"}; }

  void SetUp() override {
    HopTest::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_VALUE(third_, VmhopHost::create(*network_, "third", lab_vmhop()));
    stop_before(*source_, "drained");
    stop_before(*destination_, "prepared");
    ASSERT_OK(boot());
    ASSERT_OK(await());
    ASSERT_VALUE(relocating_, start_relocation());
    ASSERT_VALUE(first_, wait_until_stopped(*source_));
    ASSERT_OK(runs_at_destination());
    ASSERT_OK(await_at_third());
    ASSERT_VALUE(onward_, destination_->relocate(kVm, third_->endpoint()));
    ASSERT_VALUE(second_, wait_until_stopped(*destination_));
    kill_victims();
    ASSERT_OK(go_on(second_));
  }

  Status await_at_third() {
    VMHOP_ASSIGN(at_third_, third_->receive(kVm, guest_.qemu_command(third_->place())));
    return console_->attach(third_->place().console, within(kPatience));
  }

  // It is at the third host, whole, and left nothing where it was.
  void expect_arrival() {
    ASSERT_VALUE(Finished hopped, finish(*onward_, within(kPatience)));
    ASSERT_TRUE(hopped.status.clean()) << hopped.describe();
    ASSERT_OK(wait_for_state(*third_, "running"));
    ASSERT_OK(guest_goes_on());
    ASSERT_OK(go_on(first_));
    EXPECT_OK(end_unanswered_exporter());
    EXPECT_OK(no_process_left_at("source"));
    EXPECT_OK(no_process_left_at("destination"));
    end_at(At::kThird, at_third_);
  }

  ProcessIdentity first_;   // the exporter of the first hop, or ...
  ProcessIdentity second_;  // ... of the second, stopped
  std::optional<Process> at_third_;
  std::optional<Process> onward_;
};

using HoppingOnAlone = HoppingOn;

TEST_P(HoppingOnAlone, GoesOn) {
  expect_arrival();
}

INSTANTIATE_TEST_SUITE_P(
    Without, HoppingOnAlone,
    testing::Values(Moment{"TheFirstExporter", At::kSource, {{At::kSource, kExporter}}},
                    Moment{"TheFirstSupervisor", At::kSource, {{At::kSource, kSupervisor}}},
                    Moment{"TheFirstPager", At::kSource, {{At::kDestination, kPager}}}),
    [](const auto& tested) { return std::string(tested.param.name); });

class HoppingOnFails : public HoppingOn {};

TEST_P(HoppingOnFails, LeavesTheVmWhereItIs) {
  if (GetParam().kills(At::kDestination, kSupervisor)) {
    ASSERT_OK(guest_goes_on());
    ASSERT_VALUE(former_, recover(*destination_));
    std::swap(*former_, *receiving_);
  }
  ASSERT_VALUE(Finished failed, finish(*onward_, within(kPatience)));
  EXPECT_FALSE(failed.status.clean()) << failed.describe();
  ASSERT_OK(runs_at_destination());
  ASSERT_OK(go_on(first_));
  EXPECT_OK(no_process_left_at("source"));
  // And it goes there the next time.
  at_third_->signal(SIGTERM);
  ASSERT_VALUE(Finished gone, finish(*at_third_, within(kPatience)));
  if (GetParam().kills(At::kThird, kSupervisor)) {
    ASSERT_VALUE(Finished dropped, third_->command({"drop", kVm, "--yes"}));
  }
  ASSERT_OK(await_at_third());
  ASSERT_VALUE(onward_, destination_->relocate(kVm, third_->endpoint()));
  expect_arrival();
}

INSTANTIATE_TEST_SUITE_P(
    When, HoppingOnFails,
    testing::Values(Moment{"ItsExporterDies", At::kSource, {{At::kDestination, kExporter}}},
                    Moment{"ItsSupervisorDies", At::kSource, {{At::kDestination, kSupervisor}}},
                    Moment{"TheThirdsPagerDies", At::kSource, {{At::kThird, kPager}}},
                    Moment{"TheThirdsSupervisorDies", At::kSource, {{At::kThird, kSupervisor}}},
                    Moment{"TheThirdsQemuDies", At::kSource, {{At::kThird, &VmRecord::qemu}}}),
    [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace vmhop::lab
