#include "cli/argument_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmhop {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string mapped(const std::string& argument, const std::vector<ArgumentMap>& maps) {
  auto result = map_arguments({argument}, maps);
  return result ? result->front() : "refused";
}

TEST(ArgumentMap, IsSplitAtTheFirstEqualsSign) {
  EXPECT_EQ(parse_argument_map("a=b").value(), (ArgumentMap{"a", "b"}));
  EXPECT_EQ(parse_argument_map("a=b=c").value(), (ArgumentMap{"a", "b=c"}));
  EXPECT_EQ(parse_argument_map("a=").value(), (ArgumentMap{"a", ""}));
  EXPECT_FALSE(parse_argument_map("=b").ok());
  EXPECT_FALSE(parse_argument_map("ab").ok());
}

TEST(ArgumentMap, ReplacesTapsPathsAndCpus) {
  EXPECT_EQ(mapped("tap,id=n,ifname=tap1,script=no", {{"tap1", "tap7"}}),
            "tap,id=n,ifname=tap7,script=no");
  EXPECT_EQ(mapped("file=/images/a.img,if=virtio", {{"/images", "/mnt/i"}}),
            "file=/mnt/i/a.img,if=virtio");
  EXPECT_EQ(mapped("file=/images/a.img", {{"/images/", "/mnt/"}}), "file=/mnt/a.img");
  EXPECT_EQ(mapped("host-nodes=0,cpus=0-3", {{"0-3", "4-7"}}), "host-nodes=0,cpus=4-7");
}

TEST(ArgumentMap, LeavesLongerWordsAlone) {
  EXPECT_EQ(mapped("tap1,tap10,mytap1,tap1-a,tap1.5,tap1", {{"tap1", "x"}}),
            "x,tap10,mytap1,tap1-a,tap1.5,x");
  EXPECT_EQ(mapped("/images /images2 /my/images", {{"/images", "/mnt"}}),
            "/mnt /images2 /my/images");
  EXPECT_EQ(mapped("0-3,10-3,0-31", {{"0-3", "4-7"}}), "4-7,10-3,0-31");
}

TEST(ArgumentMap, PutsNothingInTwice) {
  EXPECT_EQ(mapped("tap0,tap1", {{"tap0", "tap1"}, {"tap1", "tap0"}}), "tap1,tap0");
  EXPECT_EQ(mapped("/a/b/c", {{"/a", "/x"}, {"/a/b", "/y"}}), "refused") << "/a is of no use";
  EXPECT_EQ(mapped("/a/b,/a", {{"/a", "/x"}, {"/a/b", "/y"}}), "/y,/x") << "the longest one";
}

TEST(ArgumentMap, ThatFindsNothingIsRefused) {
  auto result = map_arguments({"-netdev", "tap,ifname=tap10"}, {{"tap1", "tap2"}});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(result.error().message(), HasSubstr("--map tap1=tap2: tap1 is nowhere"));
}

TEST(ArgumentsToReceiveWith, LackWhatOnlyTheFirstStartNeeds) {
  EXPECT_THAT(arguments_to_receive_with(
                  {"qemu", "-m", "1G", "-loadvm", "snap", "--preconfig", "-S", "--loadvm", "x"}),
              ElementsAre("qemu", "-m", "1G", "-S"));
}

}  // namespace
}  // namespace vmhop
