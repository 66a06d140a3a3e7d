#include "qemu-memory-backend/front_variable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace vmhop {
namespace {

using testing::HasSubstr;

TEST(FrontVariable, NamesControlAndRamToExport) {
  std::array<FrontRamFile, 2> ram{{{7, "ram0"}, {8, "node-1.b_2"}}};
  EXPECT_EQ(export_front_variable(5, ram).value(),
            "v=1;mode=export;control=5;ram=7:ram0,8:node-1.b_2");
}

TEST(FrontVariable, PutsTheSocketLastSoThatItsPathMayHoldAnything) {
  std::array<FrontRamFile, 1> ram{{{7, "ram0"}}};
  EXPECT_EQ(lazy_front_variable(5, ram, "/run/a;b=c, d/s").value(),
            "v=1;mode=lazy;control=5;ram=7:ram0;socket=/run/a;b=c, d/s");
}

TEST(FrontVariable, RefusesIdsThatQemuWouldRefuse) {
  for (const char* id : {"", "0ram", "a:b", "a,b", "a;b", "a b", "ram\n"}) {
    std::array<FrontRamFile, 1> ram{{{7, id}}};
    EXPECT_FALSE(export_front_variable(5, ram).ok()) << id;
  }
  std::array<FrontRamFile, 1> ram{{{7, "r" + std::string(255, 'x')}}};
  EXPECT_FALSE(export_front_variable(5, ram).ok());
  ram[0].id.pop_back();
  EXPECT_TRUE(export_front_variable(5, ram).ok());
}

TEST(FrontVariable, RefusesNoRamAndTooMuch) {
  EXPECT_FALSE(export_front_variable(5, {}).ok());
  std::vector<FrontRamFile> ram(65, FrontRamFile{7, "ram"});
  EXPECT_FALSE(export_front_variable(5, ram).ok());
}

TEST(FrontVariable, RefusesSocketPathsThatCannotWork) {
  std::array<FrontRamFile, 1> ram{{{7, "ram0"}}};
  EXPECT_FALSE(lazy_front_variable(5, ram, "relative").ok());
  auto too_long = lazy_front_variable(5, ram, "/" + std::string(107, 'x'));
  ASSERT_FALSE(too_long.ok());
  EXPECT_THAT(too_long.error().message(), HasSubstr("at most 107 bytes"));
}

}  // namespace
}  // namespace vmhop
