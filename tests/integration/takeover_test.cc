// A pager that dies is replaced, and the VM does not notice.
#include <unistd.h>

#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

class Takeover : public HopTest {
 protected:
  // The pager dies instead of telling the supervisor of `event`.
  void relocate_past_a_death(const std::string& event) {
    // In the VM's directory: a pager may write nowhere else.
    std::string death = destination_->runtime_directory() + "/" + kVm + "/death";
    destination_->set_environment("LD_PRELOAD", VMHOP_DIES_BEFORE_IT_TELLS);
    destination_->set_environment("VMHOP_TEST_DEATH", death);
    destination_->set_environment("VMHOP_TEST_EVENT", event);
    ASSERT_OK(boot());
    ASSERT_OK(await());
    EXPECT_OK(relocates_well());
    EXPECT_EQ(::access(death.c_str(), F_OK), 0) << "no pager died";
  }
};

// The commit is in the page map, and nobody but the pager that died had heard of it: its successor
// has to tell, or the VM would run nowhere.
TEST_F(Takeover, APagerThatDiesBeforeItTellsOfTheCommitLeavesThatToTheNext) {
  relocate_past_a_death("commit");
}

TEST_F(Takeover, APagerThatDiesBeforeItTellsThatAllIsDrainedLeavesThatToTheNext) {
  relocate_past_a_death("drained");
}

}  // namespace
}  // namespace vmhop::lab
