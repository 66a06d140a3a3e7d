// Relocations by X.509 certificates, made as docs/certificates.md says.
#include <filesystem>

#include "cli/exit_codes.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

// The commands of the page, in order: what stands between ```bash and ```.
std::string commands_of(const std::string& page) {
  std::string commands;
  for (size_t at = page.find("```bash\n"); at != std::string::npos;
       at = page.find("```bash\n", at)) {
    size_t begin = at + 8;
    at = page.find("```", begin);
    commands += page.substr(begin, at - begin);
  }
  return commands;
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
}

class Certified : public HopTest {
 protected:
  void SetUp() override {
    HopTest::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_VALUE(std::string page, read_file(VMHOP_DOCS "/certificates.md", 1 << 20));
    std::string script =
        "set -euo pipefail\ncd " + network_->directory() + "\n" + commands_of(page);
    // The source is host-a, the destination host-b.
    replace(script, "192.0.2.1", network_->address("source"));
    replace(script, "192.0.2.2", network_->address("destination"));
    ASSERT_VALUE(Process made, destination_->start_program({"/bin/bash", "-c", script}));
    ASSERT_VALUE(Finished finished, finish(made, within(20s)));
    ASSERT_TRUE(finished.status.clean()) << finished.describe();
    source_options_ = {"--tls-creds", directory("host-a")};
    destination_options_ = {"--tls-creds", directory("host-b")};
  }
  std::string directory(const std::string& host) const {
    return network_->directory() + "/" + host;
  }
};

TEST_F(Certified, VmsRelocateByThem) {
  destination_options_.insert(destination_options_.end(), {"--tls-authz", "host-a"});
  ASSERT_OK(boot());
  ASSERT_OK(await());
  // A key is not taken in their place, and the VM is not stopped for it.
  ASSERT_VALUE(Process by_key, source_->relocate(kVm, destination_->endpoint()));
  ASSERT_VALUE(Finished refused, finish(by_key, within(20s)));
  EXPECT_EQ(refused.status.shell_code(), kExitRefused) << refused.describe();
  EXPECT_NE(refused.err.find("(--tls-creds), this side needs some, too"), std::string::npos)
      << refused.describe();
  while (auto event = source_monitor_->next_event(0ms))
    EXPECT_NE(event->name, "STOP");
  // Nor is the certificate of somebody else's host.
  ASSERT_VALUE(Finished wrong, relocate({"--tls-hostname", "host-c"}));
  EXPECT_EQ(wrong.status.shell_code(), kExitRefused) << wrong.describe();
  EXPECT_NE(wrong.err.find("not for host-c"), std::string::npos) << wrong.describe();
  // The last of the page's commands have revoked host-a's: with that list it would not begin.
  std::string list = directory("host-a") + "/ca-crl.pem";
  std::filesystem::copy_file(network_->directory() + "/ca-crl.pem", list);
  ASSERT_VALUE(Finished revoked, relocate());
  EXPECT_EQ(revoked.status.shell_code(), kExitRefused) << revoked.describe();
  EXPECT_NE(revoked.err.find("client-cert.pem was revoked"), std::string::npos)
      << revoked.describe();
  std::filesystem::remove(list);
  ASSERT_OK(relocates_well());
}

// Neither side is told again where they are.
TEST_F(Certified, RelocationsAreRecoveredWithThem) {
  ASSERT_OK(relocate_slowly());
  ASSERT_OK(kill(*source_, &VmRecord::exporter));
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  ASSERT_OK(kill(*destination_, &VmRecord::pager));
  ASSERT_VALUE(Process recovering, destination_->start({"recover", kVm}));
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
  ASSERT_OK(speed_up());
  ASSERT_OK(runs_at_destination());
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(60s)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
}

// Committed, and nobody there has heard yet that the VM runs: QEMU is there, and must not be
// thawed.
TEST_F(Certified, TheSourceIsRecoveredWithThem) {
  stop_before(*source_, "committed");
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(relocating_, start_relocation());
  ASSERT_VALUE(ProcessIdentity exporter, wait_until_stopped(*source_));
  ASSERT_OK(kill(*source_, &VmRecord::supervisor));
  ASSERT_OK(kill(*source_, &VmRecord::exporter));
  ASSERT_FALSE(is_alive(exporter));
  ASSERT_VALUE(Process recovering, source_->start({"recover", kVm}));
  ASSERT_OK(recovering.wait_for_err(
      [](auto text) { return count_of(text, "going on to serve its memory to") > 0; },
      within(60s)));
  ASSERT_OK(runs_at_destination());
  ASSERT_VALUE(Finished recovered, finish(recovering, within(60s)));
  EXPECT_TRUE(recovered.status.clean()) << recovered.describe();
  EXPECT_OK(nothing_left_at("source"));
}

}  // namespace
}  // namespace vmhop::lab
