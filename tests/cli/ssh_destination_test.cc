#include "cli/ssh_destination.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmhop {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(SshDestination, IsReadAsAUrl) {
  auto read = [](const char* text) { return parse_ssh_destination(text).value(); };
  EXPECT_EQ(read("ssh://host-b"), (SshDestination{"", "host-b", 0}));
  EXPECT_EQ(read("ssh://root@host-b:2222/"), (SshDestination{"root", "host-b", 2222}));
  EXPECT_EQ(read("ssh://a@[fe80::1]:22"), (SshDestination{"a", "fe80::1", 22}));
  EXPECT_EQ(read("ssh://[::1]"), (SshDestination{"", "::1", 0}));
}

TEST(SshDestination, IsNothingThatSshOrAShellCouldMisread) {
  for (const char* text :
       {"host:4000", "ssh://", "ssh://@host", "ssh://host:", "ssh://host:0", "ssh://host:99999",
        "ssh://-oProxyCommand=reboot", "ssh://-l@host", "ssh://a b", "ssh://host;reboot",
        "ssh://$(reboot)", "ssh://host/path", "ssh://[::1", "ssh://[::1]x"}) {
    EXPECT_FALSE(parse_ssh_destination(text).ok()) << text;
  }
}

TEST(DataAddress, MayLeaveOutEither) {
  EXPECT_EQ(parse_data_address("10.1.0.2").value(), (HostPort{"10.1.0.2", 0}));
  EXPECT_EQ(parse_data_address("10.1.0.2:4455").value(), (HostPort{"10.1.0.2", 4455}));
  EXPECT_EQ(parse_data_address(":4455").value(), (HostPort{"", 4455}));
  EXPECT_EQ(parse_data_address("[::1]").value(), (HostPort{"::1", 0}));
  EXPECT_EQ(parse_data_address("[::1]:4455").value(), (HostPort{"::1", 4455}));
  EXPECT_FALSE(parse_data_address("::1").ok());
  EXPECT_FALSE(parse_data_address("host:port").ok());
}

TEST(Words, AreSplitAsAShellWould) {
  EXPECT_THAT(split_words("ssh  -i '/my keys/a'\t-o\"A B\" c\\ d ''").value(),
              ElementsAre("ssh", "-i", "/my keys/a", "-oA B", "c d", ""));
  EXPECT_THAT(split_words(" ").value(), ElementsAre());
  EXPECT_FALSE(split_words("ssh 'a").ok());
}

TEST(SshArguments, LetSshFailRatherThanAsk) {
  auto arguments =
      ssh_arguments("ssh -o ConnectTimeout=3", {"root", "host-b", 2222}, "vmhop x").value();
  EXPECT_THAT(std::vector<std::string>(arguments.begin(), arguments.begin() + 3),
              ElementsAre("ssh", "-o", "ConnectTimeout=3"));
  EXPECT_THAT(arguments, testing::Contains("-oBatchMode=yes"));
  EXPECT_THAT(std::vector<std::string>(arguments.end() - 6, arguments.end()),
              ElementsAre("-p", "2222", "-l", "root", "host-b", "vmhop x"));
  EXPECT_FALSE(ssh_arguments("", {"", "host-b", 0}, "vmhop x").ok());
}

}  // namespace
}  // namespace vmhop
