// Two hosts with RDMA between them, as ci/rxe-lab --hosts 2 makes them: what runs there, and what
// can happen to their cables and to themselves.
#include <gtest/gtest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <filesystem>
#include <optional>
#include <sstream>

#include "tests/integration/expect_ok.h"
#include "tests/lab/process.h"
#include "tests/lab/uml_host.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class Hosts : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = "/tmp/vmhop-hosts-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    directory_ = path;
    auto source = UmlHost::find("source");
    auto destination = UmlHost::find("destination");
    ASSERT_TRUE(source.ok()) << source.error().message();
    ASSERT_TRUE(destination.ok()) << destination.error().message();
    source_ = *source;
    destination_ = *destination;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  Result<Process> start(const UmlHost& host, std::vector<std::string> argv,
                        std::string input = {}) {
    ProcessSpec spec;
    spec.argv = std::move(argv);
    spec.output = fmt::format("{}/{}", directory_, ++count_);
    spec.input = std::move(input);
    spec.host = &host;
    return Process::start(spec);
  }

  // The exit status of a program that ends by itself, and what it printed.
  struct Ended {
    ExitStatus status;
    std::string out;
    std::string err;
  };
  Result<Ended> run(const UmlHost& host, std::vector<std::string> argv, std::string input = {}) {
    VMHOP_ASSIGN(Process process, start(host, std::move(argv), std::move(input)));
    VMHOP_ASSIGN(ExitStatus status, process.wait(within(60s)));
    return Ended{status, process.out(), process.err()};
  }

  // The pings of the source that the destination answered by RDMA, by reading and writing its
  // memory, with every byte right: kPings, or none when they are apart. Its exit code says nothing:
  // once all pings are through, rping may stumble over its own disconnecting.
  static constexpr size_t kPings = 5;
  struct Pinged {
    size_t answered = 0;
    std::string client;  // what it printed
  };
  Result<Pinged> rping() {
    // rdma_cm trusts the neighbour table: an address that it holds for a minute after the host has
    // gone, or a search that it has just given up.
    VMHOP_ASSIGN(Ended flushed, run(*source_, {"ip", "neigh", "flush", "dev", "vec0"}));
    if (!flushed.status.clean()) return Error(flushed.err);
    // A port of its own: a server that lost its client lets go of its port only after a while.
    static unsigned port = 7000;
    std::vector<std::string> common = {"stdbuf",
                                       "-oL",
                                       "rping",
                                       "-p",
                                       fmt::to_string(++port),
                                       "-a",
                                       destination_->rdma_address(),
                                       "-C",
                                       fmt::to_string(kPings)};
    auto with = [&common](std::vector<std::string> more) {
      more.insert(more.begin(), common.begin(), common.end());
      return more;
    };
    VMHOP_ASSIGN(Process server, start(*destination_, with({"-s", "-d"})));
    VMHOP_TRY(server.wait_for_out(
        [](auto text) { return text.find("rdma_listen") != std::string_view::npos; }, within(30s)));
    VMHOP_ASSIGN(Ended client, run(*source_, with({"-c", "-v", "-V"})));
    return Pinged{count_lines(client.out, "ping data: "), client.out + client.err};
  }
  static size_t count_lines(const std::string& text, std::string_view prefix) {
    std::istringstream lines(text);
    size_t count = 0;
    for (std::string line; std::getline(lines, line);)
      count += line.starts_with(prefix) ? 1 : 0;
    return count;
  }

  std::string directory_;
  unsigned count_ = 0;
  std::optional<UmlHost> source_;
  std::optional<UmlHost> destination_;
};

TEST_F(Hosts, AreKernelsOfTheirOwn) {
  auto source = run(*source_, {"uname", "-n"});
  auto destination = run(*destination_, {"uname", "-n"});
  ASSERT_TRUE(source.ok()) << source.error().message();
  ASSERT_TRUE(destination.ok()) << destination.error().message();
  EXPECT_NE(source->out, destination->out);
}

TEST_F(Hosts, RunProgramsWithTheirInputOutputsAndExitCode) {
  auto ended = run(*source_, {"bash", "-c", "cat; echo trouble >&2; exit 7"}, "hello\n");
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->status.describe(), (ExitStatus{7, 0}).describe());
  EXPECT_EQ(ended->out, "hello\n");
  EXPECT_EQ(ended->err, "trouble\n");
}

TEST_F(Hosts, PassSignalsToTheirPrograms) {
  auto process = start(*source_, {"bash", "-c", "echo up; exec sleep 1000"});
  ASSERT_TRUE(process.ok());
  ASSERT_TRUE(process->wait_for_out([](auto text) { return !text.empty(); }, within(30s)).ok());
  process->signal(SIGTERM);
  auto status = process->wait(within(30s));
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_EQ(status->signal, SIGTERM);
}

TEST_F(Hosts, EndTheProgramsNobodyWaitsForAnyMore) {
  std::string fifo = directory_ + "/fifo";
  ASSERT_TRUE(run(*source_, {"mkfifo", fifo})->status.clean());
  auto reader = start(*source_, {"cat", fifo});
  ASSERT_TRUE(reader.ok());
  {
    auto writer = start(*source_, {"bash", "-c", "exec 3>$0; echo up; exec sleep 1000", fifo});
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->wait_for_out([](auto text) { return !text.empty(); }, within(30s)).ok());
  }
  // It reads to the end, which comes when no writer is left.
  auto ended = reader->wait(within(30s));
  EXPECT_TRUE(ended.ok() && ended->clean());
}

TEST_F(Hosts, ReadEachOthersMemoryByRdma) {
  ASSERT_VALUE(Pinged pinged, rping());
  EXPECT_EQ(pinged.answered, kPings) << pinged.client;
}

TEST_F(Hosts, AreApartWhenACableIsCutAndTogetherWhenItIsJoined) {
  ASSERT_OK(destination_->cut());
  auto apart = rping();
  ASSERT_OK(destination_->join());
  ASSERT_TRUE(apart.ok()) << apart.error().message();
  EXPECT_EQ(apart->answered, 0U) << apart->client;

  ASSERT_VALUE(Pinged together, rping());
  EXPECT_EQ(together.answered, kPings) << together.client;
}

TEST_F(Hosts, TakeTheirProgramsWithThemWhenTheyAreKilled) {
  auto process = start(*source_, {"bash", "-c", "echo up; exec sleep 1000"});
  ASSERT_TRUE(process.ok());
  ASSERT_TRUE(process->wait_for_out([](auto text) { return !text.empty(); }, within(30s)).ok());

  auto killed = source_->kill();
  ASSERT_TRUE(killed.ok()) << killed.error().message();
  auto status = process->wait(within(30s));
  EXPECT_TRUE(status.ok() && status->code == 125);
  EXPECT_NE(process->err().find("the host source went down"), std::string::npos) << process->err();

  auto booted = source_->boot(within(60s));
  ASSERT_TRUE(booted.ok()) << booted.error().message();
  auto devices = run(*source_, {"rdma", "link", "show"});
  ASSERT_TRUE(devices.ok());
  EXPECT_NE(devices->out.find("state ACTIVE"), std::string::npos) << devices->out;
}

}  // namespace
}  // namespace vmhop::lab
