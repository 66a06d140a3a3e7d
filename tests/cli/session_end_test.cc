#include "cli/session_end.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

using testing::HasSubstr;

class SessionEnd : public testing::Test {
 protected:
  SessionEnd() { std::filesystem::create_directory(places_.booted); }
  ~SessionEnd() override {
    ::unsetenv("VMHOP_RUNTIME_DIR");
    ::unsetenv("XDG_RUNTIME_DIR");
  }
  void keep_vms_in(const char* directory) {
    ::setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
    ::setenv("VMHOP_RUNTIME_DIR", directory, 1);
  }

  TemporaryDirectory directory_;
  SessionPlaces places_{directory_.path() + "/booted", directory_.path()};
};

TEST_F(SessionEnd, WouldTakeAUsersVmAlong) {
  keep_vms_in("/run/user/1/vmhop");
  auto checked = check_outlives_session(places_);
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(checked.error().message(), HasSubstr("loginctl enable-linger"));
}

TEST_F(SessionEnd, IsNothingToAUserWhoLingers) {
  keep_vms_in("/run/user/1/vmhop");
  const passwd* user = ::getpwuid(::geteuid());
  std::string name = user != nullptr ? user->pw_name : std::to_string(::geteuid());
  std::ofstream(directory_.path() + "/" + name) << "";
  EXPECT_TRUE(check_outlives_session(places_).ok());
}

TEST_F(SessionEnd, IsNothingToOtherDirectoriesOrWithoutSystemd) {
  keep_vms_in("/run/vmhop");
  EXPECT_TRUE(check_outlives_session(places_).ok());
  keep_vms_in("/run/user/1/vmhop");
  std::filesystem::remove(places_.booted);
  EXPECT_TRUE(check_outlives_session(places_).ok());
}

}  // namespace
}  // namespace vmhop
