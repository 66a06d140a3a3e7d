#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/exit_codes.h"

namespace vmhop {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class HelpOf : public testing::TestWithParam<const char*> {};

TEST_P(HelpOf, IsThere) {
  CommandLine line = parse_command_line({GetParam(), "--help"});
  EXPECT_FALSE(line.command);
  EXPECT_EQ(line.exit_code, kExitDone);
  EXPECT_THAT(line.text, HasSubstr(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Options, HelpOf,
                         testing::Values("keygen", "run", "receive", "relocate", "status",
                                         "metrics", "report", "drop"));

TEST(Options, TheProgramsHelpNamesCommandsAndExitCodes) {
  CommandLine line = parse_command_line({"--help"});
  EXPECT_EQ(line.exit_code, kExitDone);
  for (const char* word : {"keygen", "run", "receive", "relocate", "status", "drop", "Exit codes"})
    EXPECT_THAT(line.text, HasSubstr(word));
  EXPECT_THAT(line.text, testing::Not(HasSubstr("internal-")));
}

TEST(Options, TheVersionIsThere) {
  CommandLine line = parse_command_line({"--version"});
  EXPECT_EQ(line.exit_code, kExitDone);
  EXPECT_THAT(line.text, HasSubstr("vmhop "));
}

TEST(Options, RunTakesQemusCommandAsItIs) {
  CommandLine line = parse_command_line({"run", "web", "--", "qemu", "-m", "1G", "--", "--help"});
  ASSERT_TRUE(line.command);
  const auto& run = std::get<RunOptions>(*line.command);
  EXPECT_EQ(run.name, "web");
  EXPECT_THAT(run.qemu, ElementsAre("qemu", "-m", "1G", "--", "--help"));
}

TEST(Options, ReceiveNeedsAnAddress) {
  EXPECT_EQ(parse_command_line({"receive", "web", "--", "qemu"}).exit_code, kExitUsage);
  CommandLine line =
      parse_command_line({"receive", "web", "--listen", ":4000", "--once", "--", "qemu"});
  ASSERT_TRUE(line.command);
  const auto& receive = std::get<ReceiveOptions>(*line.command);
  EXPECT_EQ(receive.listen, ":4000");
  EXPECT_TRUE(receive.once);
  EXPECT_FALSE(receive.credentials.key_path.empty());
}

TEST(Options, AFrontIsChosenForRunAndReceive) {
  auto front = [](std::vector<std::string> arguments) {
    CommandLine line = parse_command_line(std::move(arguments));
    if (!line.command) return std::string("refused");
    if (const auto* run = std::get_if<RunOptions>(&*line.command)) return run->front;
    return std::get<ReceiveOptions>(*line.command).front;
  };
  EXPECT_EQ(front({"run", "web", "--", "qemu"}), "auto");
  EXPECT_EQ(front({"run", "web", "--front", "preload", "--", "qemu"}), "preload");
  EXPECT_EQ(front({"receive", "web", "--listen", ":1", "--front", "object", "--", "qemu"}),
            "object");
  EXPECT_EQ(front({"run", "web", "--front", "back", "--", "qemu"}), "refused");
}

TEST(Options, APagerHasNoQemuOfItsOwn) {
  CommandLine line = parse_command_line({"pager", "web", "--listen", ":4000", "--once"});
  ASSERT_TRUE(line.command);
  const auto& pager = std::get<PagerOptions>(*line.command);
  EXPECT_EQ(pager.listen, ":4000");
  EXPECT_TRUE(pager.once);
  EXPECT_EQ(parse_command_line({"pager", "web", "--listen", ":1", "--", "qemu"}).exit_code,
            kExitUsage);
}

TEST(Options, RelocateHasSensibleDefaults) {
  CommandLine line = parse_command_line({"relocate", "web", "there:4000"});
  ASSERT_TRUE(line.command);
  const auto& relocate = std::get<RelocateOptions>(*line.command);
  EXPECT_EQ(relocate.destination, "there:4000");
  EXPECT_FALSE(relocate.prepare_seconds.has_value());
  EXPECT_EQ(relocate.switch_seconds, 10);
  EXPECT_FALSE(relocate.plain_data);
}

TEST(Options, ChooseAKeyOrCertificates) {
  CommandLine line = parse_command_line(
      {"relocate", "web", "there:1", "--tls-creds", "/t", "--tls-hostname", "host-b"});
  ASSERT_TRUE(line.command) << line.text;
  const auto& relocate = std::get<RelocateOptions>(*line.command);
  EXPECT_EQ(relocate.credentials.tls_creds, "/t");
  EXPECT_THAT(relocate.credentials.tls_names, ElementsAre("host-b"));

  line = parse_command_line({"receive", "web", "--listen", ":1", "--tls-creds", "/t", "--tls-authz",
                             "host-a", "--tls-authz", "host-c", "--", "qemu"});
  ASSERT_TRUE(line.command) << line.text;
  const auto& receive = std::get<ReceiveOptions>(*line.command);
  EXPECT_THAT(receive.credentials.tls_names, ElementsAre("host-a", "host-c"));

  line = parse_command_line({"recover", "web", "--tls-creds", "/t"});
  ASSERT_TRUE(line.command) << line.text;
  EXPECT_EQ(std::get<RecoverOptions>(*line.command).credentials.tls_creds, "/t");

  for (std::vector<std::string> command : {std::vector<std::string>{"relocate", "web", "there:1"},
                                           {"recover", "web"},
                                           {"pager", "web", "--listen", ":1"}}) {
    command.insert(command.end(), {"--tls-creds", "/t", "--key", "/k"});
    line = parse_command_line(command);
    EXPECT_EQ(line.exit_code, kExitUsage) << command[0];
    EXPECT_THAT(line.text, HasSubstr("excludes")) << command[0];
  }
}

TEST(Options, NamesAreForCertificatesOnly) {
  auto loaded = load_credentials({"/k", "", {"host-b"}}, SessionRole::kSource);
  ASSERT_FALSE(loaded.ok());
  EXPECT_THAT(loaded.error().message(), HasSubstr("--tls-hostname is about certificates"));
}

TEST(Options, RelocateTakesItsOptionsAnywhere) {
  CommandLine line =
      parse_command_line({"relocate", "--json", "web", "--plain-data", "there:4000", "--wait",
                          "--hold", "--key", "k", "--switch-timeout", "2"});
  ASSERT_TRUE(line.command);
  const auto& relocate = std::get<RelocateOptions>(*line.command);
  EXPECT_TRUE(relocate.json && relocate.plain_data && relocate.wait && relocate.hold);
  EXPECT_EQ(relocate.credentials.key_path, "k");
  EXPECT_EQ(relocate.switch_seconds, 2);
}

TEST(Options, RelocateByItsOwnMeansOrBySsh) {
  CommandLine line = parse_command_line(
      {"relocate", "web", "--map", "tap0=tap3", "ssh://root@there", "--map", "/a=/b", "--address",
       "10.0.0.2", "--ssh", "ssh -i key", "--remote-vmhop", "/opt/vmhop"});
  ASSERT_TRUE(line.command) << line.text;
  const auto& relocate = std::get<RelocateOptions>(*line.command);
  EXPECT_EQ(relocate.destination, "ssh://root@there");
  EXPECT_THAT(relocate.ssh.maps, ElementsAre("tap0=tap3", "/a=/b"));
  EXPECT_EQ(relocate.ssh.address, "10.0.0.2");
  EXPECT_EQ(relocate.ssh.command, "ssh -i key");
  EXPECT_EQ(relocate.ssh.remote_vmhop, "/opt/vmhop");
  EXPECT_EQ(parse_command_line({"relocate", "web", "there:4000", "--map", "a=b"}).exit_code,
            kExitUsage);
}

TEST(Options, TheHiddenCommandsAreThere) {
  HostDefaults host{"/etc/vmhop/key", {}};
  host.transport.bind = "node:1";
  auto receive = parse_command_line({"internal-receive"}, host).command;
  EXPECT_EQ(std::get<SshReceiveOptions>(*receive).transport.bind, "node:1");
  EXPECT_TRUE(std::get<HelperOptions>(*parse_command_line({"internal-exporter"}).command).exporter);
  EXPECT_FALSE(std::get<HelperOptions>(*parse_command_line({"internal-pager"}).command).exporter);
}

TEST(Options, LogsAreTextUnlessTheConfigurationOrTheCommandLineSaysOtherwise) {
  auto format = [](const std::vector<std::string>& arguments, LogFormat of_host) {
    return parse_command_line(arguments, {"/key", {}, {}, of_host}).log_format;
  };
  EXPECT_EQ(format({"status"}, LogFormat::kText), LogFormat::kText);
  EXPECT_EQ(format({"status"}, LogFormat::kJson), LogFormat::kJson);
  EXPECT_EQ(format({"status", "--log-format", "json"}, LogFormat::kText), LogFormat::kJson);
  EXPECT_EQ(format({"--log-format", "text", "status"}, LogFormat::kJson), LogFormat::kText);
}

TEST(Options, MetricsGoToAFileOrAreServed) {
  CommandLine line =
      parse_command_line({"metrics", "--format", "prometheus", "--output", "/tmp/vmhop.prom"});
  ASSERT_TRUE(line.command);
  const auto& metrics = std::get<MetricsOptions>(*line.command);
  EXPECT_EQ(metrics.format, MetricsFormat::kPrometheus);
  EXPECT_EQ(metrics.output, "/tmp/vmhop.prom");
  EXPECT_EQ(std::get<MetricsOptions>(*parse_command_line({"metrics"}).command).format,
            MetricsFormat::kOpenMetrics);
  line = parse_command_line({"metrics", "--listen", "127.0.0.1:9471"});
  ASSERT_TRUE(line.command);
  EXPECT_EQ(std::get<MetricsOptions>(*line.command).listen, "127.0.0.1:9471");
  EXPECT_EQ(parse_command_line({"metrics", "--listen", ":1", "--output", "x"}).exit_code,
            kExitUsage);
}

TEST(Options, AReportIsOfOneVm) {
  CommandLine line = parse_command_line({"report", "web", "--output", "web.html"});
  ASSERT_TRUE(line.command);
  const auto& report = std::get<ReportOptions>(*line.command);
  EXPECT_EQ(report.name, "web");
  EXPECT_EQ(report.output, "web.html");
  EXPECT_EQ(parse_command_line({"report"}).exit_code, kExitUsage);
}

TEST(Options, WrongUsageIsCodeTwoAndSaysWhy) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {},
           {"fly"},
           {"run", "web"},
           {"run", "web", "--"},
           {"run", "--", "qemu"},
           {"relocate", "web"},
           {"relocate", "web", "there:1", "extra"},
           {"relocate", "web", "there:1", "--switch-timeout", "-1"},
           {"status", "--", "qemu"},
           {"status", "--log-level", "shout"},
           {"status", "--log-format", "xml"},
           {"metrics", "--format", "xml"}}) {
    CommandLine line = parse_command_line(arguments);
    EXPECT_FALSE(line.command);
    EXPECT_EQ(line.exit_code, kExitUsage);
    EXPECT_THAT(line.text, HasSubstr("vmhop --help tells more"));
  }
}

}  // namespace
}  // namespace vmhop
