#include "cli/qemu_front.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

using testing::HasSubstr;

class ChooseFront : public testing::Test {
 protected:
  // A program that answers -object help.
  std::string qemu_with(const std::string& objects) {
    std::string path = directory_.path() + "/qemu";
    std::ofstream(path) << "#!/bin/sh\n[ \"$1 $2\" = '-object help' ] && printf '%s\\n' " << objects
                        << "\n";
    EXPECT_EQ(::chmod(path.c_str(), 0755), 0);
    return path;
  }
  TemporaryDirectory directory_;
};

TEST_F(ChooseFront, TakesTheObjectWhereQemuHasIt) {
  std::string qemu = qemu_with("memory-backend-file memory-backend-postcopy");
  EXPECT_EQ(choose_front("auto", qemu).value(), Front::kObject);
  EXPECT_EQ(choose_front("object", qemu).value(), Front::kObject);
  EXPECT_EQ(choose_front("preload", qemu).value(), Front::kPreload);
}

TEST_F(ChooseFront, TakesTheLibraryForAStockQemu) {
  std::string qemu = qemu_with("memory-backend-file memory-backend-memfd");
  EXPECT_EQ(choose_front("auto", qemu).value(), Front::kPreload);
  auto refused = choose_front("object", qemu);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(refused.error().message(), HasSubstr("docs/qemu.md"));
}

TEST_F(ChooseFront, NamesAProgramThatIsNotThere) {
  auto missing = choose_front("auto", directory_.path() + "/nothing");
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message(), HasSubstr("/nothing"));
}

}  // namespace
}  // namespace vmhop
