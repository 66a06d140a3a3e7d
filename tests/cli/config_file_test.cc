#include "cli/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <filesystem>
#include <fstream>

#include "cli/options.h"

namespace vmhop {
namespace {

using testing::HasSubstr;

class ConfigFile : public testing::Test {
 protected:
  ConfigFile() {
    std::string path = "/tmp/vmhop-config-XXXXXX";
    directory_ = ::mkdtemp(path.data());
    path_ = directory_ + "/vmhop.conf";
  }
  ~ConfigFile() override { std::filesystem::remove_all(directory_); }

  Result<HostDefaults> load(const std::string& text) {
    std::ofstream(path_) << text;
    return load_config(path_);
  }

  std::string directory_;
  std::string path_;
};

TEST_F(ConfigFile, ThatIsNotThereIsEmpty) {
  auto defaults = load_config(path_);
  ASSERT_TRUE(defaults.ok()) << defaults.error().message();
  EXPECT_EQ(defaults->transport, TransportPolicy());
  EXPECT_EQ(defaults->key_path, default_key_path());
}

TEST_F(ConfigFile, SetsWhatTheReadmeSays) {
  auto defaults = load(
      "rdma-trusted = true\n"
      "transport = rdma      # auto, rdma, tcp\n"
      "bind = node:1         # NUMA: auto, none, node:N\n"
      "rdma-odp = true       # on-demand paging instead of pinning\n"
      "key = /tmp/some/key\n"
      "log-format = json\n");
  ASSERT_TRUE(defaults.ok()) << defaults.error().message();
  EXPECT_EQ(defaults->transport, (TransportPolicy{TransportChoice::kRdma, true, true, "node:1"}));
  EXPECT_EQ(defaults->key_path, "/tmp/some/key");
  EXPECT_EQ(defaults->log_format, LogFormat::kJson);
}

TEST_F(ConfigFile, MaySayNo) {
  auto defaults = load("rdma-trusted = false\n");
  ASSERT_TRUE(defaults.ok()) << defaults.error().message();
  EXPECT_FALSE(defaults->transport.rdma_trusted);
}

TEST_F(ConfigFile, NamesWhatItDoesNotKnow) {
  for (const char* text : {"rdma-trustet = true\n", "transport = pigeon\n", "bind = node\n"}) {
    auto defaults = load(text);
    ASSERT_FALSE(defaults.ok()) << text;
    EXPECT_THAT(defaults.error().message(), HasSubstr(path_)) << text;
  }
}

TEST_F(ConfigFile, GivesWayToTheCommandLine) {
  HostDefaults defaults{"/some/key", {TransportChoice::kRdma, true, false, "none"}};
  auto line = parse_command_line({"relocate", "web", "there:1"}, defaults);
  auto options = std::get<RelocateOptions>(*line.command);
  EXPECT_EQ(options.transport, defaults.transport);
  EXPECT_EQ(options.credentials.key_path, "/some/key");
  line = parse_command_line(
      {"relocate", "web", "there:1", "--transport", "tcp", "--bind", "node:2", "--key", "/k"},
      defaults);
  options = std::get<RelocateOptions>(*line.command);
  EXPECT_EQ(options.transport, (TransportPolicy{TransportChoice::kTcp, true, false, "node:2"}));
  EXPECT_EQ(options.credentials.key_path, "/k");
}

TEST_F(ConfigFile, MayNameCertificatesThatGoBeforeTheKey) {
  auto defaults = load("key = /some/key\ntls-creds = /some/tls\n");
  ASSERT_TRUE(defaults.ok()) << defaults.error().message();
  auto chosen = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"relocate", "web", "there:1"});
    return std::get<RelocateOptions>(*parse_command_line(more, *defaults).command).credentials;
  };
  EXPECT_EQ(chosen({}).tls_creds, "/some/tls");
  EXPECT_EQ(chosen({"--tls-creds", "/t"}).tls_creds, "/t");
  // A key that is named now is meant.
  EXPECT_EQ(chosen({"--key", "/k"}), (CredentialsChoice{"/k"}));
}

TEST(TransportOptions, AreReadForBothSides) {
  auto line = parse_command_line(
      {"receive", "web", "--listen", ":1", "--rdma-trusted", "--transport", "rdma", "--", "qemu"});
  auto receive = std::get<ReceiveOptions>(*line.command);
  EXPECT_EQ(receive.transport, (TransportPolicy{TransportChoice::kRdma, true, false, "auto"}));
  line = parse_command_line({"relocate", "web", "there:1", "--rdma-odp"});
  EXPECT_TRUE(std::get<RelocateOptions>(*line.command).transport.on_demand_paging);
  EXPECT_FALSE(std::get<RelocateOptions>(*line.command).transport.verify);
}

TEST_F(ConfigFile, TurnsVerificationOnAndTheCommandLineOff) {
  auto defaults = load("verify = true\n");
  ASSERT_TRUE(defaults.ok()) << defaults.error().message();
  auto verifies = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"relocate", "web", "there:1"};
    words.insert(words.end(), more.begin(), more.end());
    return std::get<RelocateOptions>(*parse_command_line(words, *defaults).command)
        .transport.verify;
  };
  EXPECT_TRUE(verifies({}));
  EXPECT_FALSE(verifies({"--verify=false"}));
  EXPECT_TRUE(verifies({"--verify"}));
}

TEST_F(ConfigFile, KnowsTheUnitsOfBandwidth) {
  auto defaults = load("bandwidth = 2GiB\n");
  ASSERT_TRUE(defaults.ok()) << defaults.error().message();
  EXPECT_EQ(defaults->transport.bandwidth, uint64_t{2} << 30);
  auto line = parse_command_line({"relocate", "web", "there:1", "--bandwidth", "500MB"}, *defaults);
  EXPECT_EQ(std::get<RelocateOptions>(*line.command).transport.bandwidth, 500'000'000U);
}

TEST(TransportOptions, RefuseWhatIsNone) {
  for (const char* option : {"--transport=pigeon", "--bind=node:x", "--bandwidth=fast"}) {
    auto line = parse_command_line({"relocate", "web", "there:1", option});
    EXPECT_FALSE(line.command) << option;
    EXPECT_NE(line.exit_code, 0) << option;
  }
}

}  // namespace
}  // namespace vmhop
