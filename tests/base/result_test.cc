#include "backend/base/result.h"

#include <gtest/gtest.h>

namespace vmhop {
namespace {

TEST(ErrorKind, IsFoundAgainByItsName) {
  for (ErrorKind kind : {ErrorKind::kFailed, ErrorKind::kRefused, ErrorKind::kTimedOut,
                         ErrorKind::kClosed, ErrorKind::kAborted}) {
    EXPECT_EQ(kind_named(kind_name(kind)), kind) << kind_name(kind);
  }
}

TEST(ErrorKind, OfANameThatIsUnknownHereIsTheGeneralOne) {
  EXPECT_EQ(kind_named("on_fire"), ErrorKind::kFailed);
  EXPECT_EQ(kind_named(""), ErrorKind::kFailed);
}

TEST(Error, KeepsItsKindUnderMoreContext) {
  Error error = refusedf("no {}", "thanks").with("asking");
  EXPECT_EQ(error.message(), "asking: no thanks");
  EXPECT_EQ(error.kind(), ErrorKind::kRefused);
}

TEST(Result, ErrorsLeaveTheEnclosingFunctionByVmhopAssign) {
  auto half = [](int number) -> Result<int> {
    if (number % 2 != 0) return errorf("{} is odd", number);
    return number / 2;
  };
  auto quarter = [&half](int number) -> Result<int> {
    VMHOP_ASSIGN(int once, half(number));
    VMHOP_ASSIGN(int twice, half(once));
    return twice;
  };
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(6).error().message(), "3 is odd");
}

}  // namespace
}  // namespace vmhop
