#include "cli/qemu_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmhop {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(QemuOptions, AreSplitWithAndWithoutValues) {
  std::vector<std::string> words = {"--m", "1G", "-S", "-append", "-m 5", "disk.img"};
  auto options = split_qemu_arguments(words).value();
  ASSERT_EQ(options.size(), 4U);
  EXPECT_EQ(options[0].name, "m");
  EXPECT_EQ(options[0].value, "1G");
  EXPECT_EQ(options[1].name, "S");
  EXPECT_FALSE(options[1].value);
  EXPECT_EQ(options[2].value, "-m 5");
  EXPECT_EQ(options[3].name, "");
  EXPECT_EQ(options[3].value, "disk.img");
}

TEST(QemuOptions, NeedTheirValue) {
  std::vector<std::string> words = {"-nodefaults", "-m"};
  EXPECT_FALSE(split_qemu_arguments(words).ok());
}

// "--" would hide what follows as its value; "---snapshot" would be passed on as "--snapshot".
TEST(QemuOptions, AreNamesBehindOneDashOrTwo) {
  for (const char* word : {"--", "---snapshot", "----"}) {
    std::vector<std::string> words = {word, "-snapshot"};
    EXPECT_FALSE(split_qemu_arguments(words).ok()) << word;
  }
}

TEST(QemuProperties, AreReadFromKeyValueLists) {
  EXPECT_THAT(parse_properties("q35,accel=kvm,path=a,,b,usb", "type").value(),
              ElementsAre(Pair("type", "q35"), Pair("accel", "kvm"), Pair("path", "a,b"),
                          Pair("usb", "on")));
}

TEST(QemuProperties, AreReadFromJsonAndFlattened) {
  auto properties = parse_properties(
      R"({"qom-type":"x","size":4096,"share":true,"host-nodes":[0,2],"a":{"b":"c"}})", "qom-type");
  ASSERT_TRUE(properties.ok());
  EXPECT_EQ(property(*properties, "qom-type"), "x");
  EXPECT_EQ(property(*properties, "size"), "4096");
  EXPECT_EQ(property(*properties, "share"), "on");
  EXPECT_EQ(property(*properties, "host-nodes.1"), "2");
  EXPECT_EQ(property(*properties, "a.b"), "c");
}

TEST(QemuProperties, RefuseBrokenJson) {
  EXPECT_FALSE(parse_properties("{\"qom-type\":", "qom-type").ok());
  std::string deep = R"({"qom-type":)" + std::string(50'000, '[') + std::string(50'000, ']') + "}";
  EXPECT_FALSE(parse_properties(deep, "qom-type").ok());
}

TEST(QemuProperties, TheLastOneCounts) {
  auto properties = parse_properties("a=1,a=2", "").value();
  EXPECT_EQ(property(properties, "a"), "2");
}

TEST(QemuSizes, AreReadAsQemuReadsThem) {
  EXPECT_EQ(parse_qemu_size("4096").value(), 4096U);
  EXPECT_EQ(parse_qemu_size("1024", 1 << 20).value(), 1ULL << 30);
  EXPECT_EQ(parse_qemu_size("1G", 1 << 20).value(), 1ULL << 30);
  EXPECT_EQ(parse_qemu_size("1.5k").value(), 1536U);
  EXPECT_EQ(parse_qemu_size("0x1000").value(), 4096U);
  EXPECT_EQ(parse_qemu_size("67108864B", 1 << 20).value(), 67108864U);
  EXPECT_EQ(parse_qemu_size("2t").value(), 2ULL << 40);
}

TEST(QemuSizes, RefuseWhatIsNone) {
  for (const char* text : {"", "G", "1X", "1GG", "-1", "1.", "99999999999G", "0x", "1.5"})
    EXPECT_FALSE(parse_qemu_size(text).ok()) << text;
  EXPECT_FALSE(parse_qemu_size("0x100000000001", 1 << 20).ok()) << "more than 64 bits";
}

}  // namespace
}  // namespace vmhop
