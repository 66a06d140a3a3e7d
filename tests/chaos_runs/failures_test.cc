// The cells of docs/failures.md that have one fault at a known moment: where the VM is afterwards.
#include <gtest/gtest.h>

#include "tests/chaos_runs/chaos_run.h"

namespace vmhop::chaos {
namespace {

using std::chrono::milliseconds;

enum class Then { kAtSource, kAtDestination, kDead };

struct Cell {
  const char* name;
  FaultKind kind;
  Side side;
  Victim victim;
  Moment moment;
  Then then;
  milliseconds length{1000};
};

void PrintTo(const Cell& cell, std::ostream* out) {
  *out << cell.name;
}

class Failures : public testing::TestWithParam<Cell> {};

TEST_P(Failures, LeaveTheVm) {
  const Cell& cell = GetParam();
  RunPlan plan;
  bool early = cell.moment < Moment::kResume;
  // So slow that the moment lasts: device state takes a second, memory ten.
  plan.rate = early ? "2mbit" : "60mbit";
  Fault fault;
  fault.kind = cell.kind;
  fault.side = cell.side;
  fault.victim = cell.victim;
  fault.moment = cell.moment;
  fault.delay = milliseconds(cell.moment == Moment::kArriving ? 500 : 0);
  fault.length = cell.length;
  plan.faults.push_back(fault);
  RunResult result = run_chaos(plan, false);
  EXPECT_TRUE(result.good()) << result.story;
  EXPECT_EQ(result.died, cell.then == Then::kDead) << result.story;
  const char* where =
      cell.then == Then::kAtSource ? "runs at the source" : "runs at the destination";
  if (cell.then != Then::kDead) {
    EXPECT_NE(result.story.find(where), std::string::npos) << result.story;
  }
}

constexpr auto kSource = Side::kSource;
constexpr auto kThere = Side::kDestination;
constexpr auto kSupervisor = Victim::kSupervisor;
constexpr auto kHelper = Victim::kHelper;
constexpr auto kQemu = Victim::kQemu;
constexpr auto kKill = FaultKind::kKill;
constexpr auto kStop = FaultKind::kStop;
constexpr auto kCut = FaultKind::kCut;
constexpr auto kFlap = FaultKind::kFlap;
constexpr auto kHostDies = FaultKind::kHostDies;
constexpr auto kAtStop = Moment::kStop;
constexpr auto kAtState = Moment::kDeviceState;
constexpr auto kAtResume = Moment::kResume;
constexpr auto kArriving = Moment::kArriving;

INSTANTIATE_TEST_SUITE_P(
    Of, Failures,
    testing::Values(
        Cell{"ASourceQemuKilledAtTheStop", kKill, kSource, kQemu, kAtStop, Then::kDead},
        Cell{"ASourceQemuKilledAfterTheCommit", kKill, kSource, kQemu, kArriving,
             Then::kAtDestination},
        Cell{"ASourceSupervisorKilledAtTheStop", kKill, kSource, kSupervisor, kAtStop,
             Then::kAtSource},
        Cell{"ASourceSupervisorKilledInDeviceState", kKill, kSource, kSupervisor, kAtState,
             Then::kAtSource},
        Cell{"ASourceSupervisorKilledAtTheResume", kKill, kSource, kSupervisor, kAtResume,
             Then::kAtDestination},
        Cell{"AnExporterKilledAtTheStop", kKill, kSource, kHelper, kAtStop, Then::kAtSource},
        Cell{"AnExporterKilledInDeviceState", kKill, kSource, kHelper, kAtState, Then::kAtSource},
        Cell{"AnExporterKilledAtTheResume", kKill, kSource, kHelper, kAtResume,
             Then::kAtDestination},
        Cell{"AnExporterKilledWhilePrecaching", kKill, kSource, kHelper, kArriving,
             Then::kAtDestination},
        Cell{"APagerKilledAtTheStop", kKill, kThere, kHelper, kAtStop, Then::kAtSource},
        Cell{"APagerKilledInDeviceState", kKill, kThere, kHelper, kAtState, Then::kAtSource},
        Cell{"APagerKilledAtTheResume", kKill, kThere, kHelper, kAtResume, Then::kAtDestination},
        Cell{"APagerKilledWhilePrecaching", kKill, kThere, kHelper, kArriving,
             Then::kAtDestination},
        Cell{"ADestinationSupervisorKilledInDeviceState", kKill, kThere, kSupervisor, kAtState,
             Then::kAtSource},
        Cell{"ADestinationSupervisorKilledAtTheResume", kKill, kThere, kSupervisor, kAtResume,
             Then::kAtDestination},
        Cell{"ADestinationQemuKilledWhilePrecaching", kKill, kThere, kQemu, kArriving, Then::kDead},
        Cell{"ASourceThatDiesAtTheStop", kHostDies, kSource, kQemu, kAtStop, Then::kDead},
        Cell{"ASourceThatDiesWhilePrecaching", kHostDies, kSource, kQemu, kArriving, Then::kDead},
        Cell{"ADestinationThatDiesInDeviceState", kHostDies, kThere, kQemu, kAtState,
             Then::kAtSource},
        Cell{"ADestinationThatDiesWhilePrecaching", kHostDies, kThere, kQemu, kArriving,
             Then::kDead},
        Cell{"ASourceSupervisorStoppedInDeviceState", kStop, kSource, kSupervisor, kAtState,
             Then::kAtDestination},
        Cell{"AnExporterStoppedInDeviceState", kStop, kSource, kHelper, kAtState,
             Then::kAtDestination},
        Cell{"ASourceQemuStoppedInDeviceState", kStop, kSource, kQemu, kAtState,
             Then::kAtDestination},
        Cell{"APagerStoppedInDeviceState", kStop, kThere, kHelper, kAtState, Then::kAtDestination},
        Cell{"ADestinationSupervisorStoppedInDeviceState", kStop, kThere, kSupervisor, kAtState,
             Then::kAtDestination},
        Cell{"ADestinationQemuStoppedInDeviceState", kStop, kThere, kQemu, kAtState,
             Then::kAtDestination},
        Cell{"AnExporterStoppedWhilePrecaching", kStop, kSource, kHelper, kArriving,
             Then::kAtDestination},
        Cell{"APagerStoppedWhilePrecaching", kStop, kThere, kHelper, kArriving,
             Then::kAtDestination},
        Cell{"ACableOutForASecondWhilePrecaching", kCut, kSource, kQemu, kArriving,
             Then::kAtDestination},
        Cell{"ACableOutForLongerThanSilenceIsBelieved", kCut, kThere, kQemu, kArriving,
             Then::kAtDestination, milliseconds(12'000)},
        Cell{"AFlappingCableWhilePrecaching", kFlap, kSource, kQemu, kArriving,
             Then::kAtDestination, milliseconds(3000)}),
    [](const auto& cell) { return std::string(cell.param.name); });

}  // namespace
}  // namespace vmhop::chaos
