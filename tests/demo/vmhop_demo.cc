// Shows vmhop at its main job, and judges it: exit code 0 only if every check held.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "tests/demo/demo.h"

namespace vmhop::demo {
namespace {

constexpr const char* kDescription =
    "A loaded web server moves from one host to another: network namespaces for the hosts and a\n"
    "client, a real Linux guest under a stock QEMU, wrk as its load, and a witness that watches "
    "the\nguest's memory and disk. By RDMA the hosts are kernels of their own, with Soft-RoCE. "
    "Needs "
    "root.";

int conclude(const Demo& demo, const Status& ran, const Options& options, StageDisplay& display) {
  const Report& report = demo.report();
  if (ran) display.text("\n" + report.to_text() + "\n");
  if (!options.keep_logs.empty()) {
    if (auto kept = demo.keep_logs(options.keep_logs); !kept) {
      display.warn(kept.error().message());
    }
  }
  bool success = ran.ok() && report.verified();
  if (!ran) display.failed("FAILED", ran.error().message());
  if (!success) fmt::print(stderr, "{}", demo.ends_of_logs());
  if (success && !options.json) display.text("  " + display.bold("All of it verified.") + "\n");
  if (options.json) fmt::print("{}\n", report.to_json());
  return success ? 0 : 1;
}

int demo_main(int argc, char** argv) {
  Options options;
  CLI::App app{kDescription, "ci/demo"};
  app.add_option("--transport", options.transport, "How its memory travels: tcp or rdma")
      ->check(CLI::IsMember({"tcp", "rdma"}))
      ->capture_default_str();
  app.add_option("--front", options.front,
                 "What hands QEMU's RAM over; object runs a QEMU that is built for it first")
      ->check(CLI::IsMember({"auto", "object", "preload"}))
      ->capture_default_str();
  app.add_option("--qemu", options.qemu, "The QEMU to run the guest in");
  app.add_option("--vmhop", options.vmhop, "The vmhop to show [the one that was built here]")
      ->check(CLI::ExistingFile);
  app.add_option("--image", options.image, "What ci/guest-image made, where it cannot be made")
      ->check(CLI::ExistingDirectory);
  app.add_option("--ram", options.ram_mib, "The guest's RAM in MiB [512, by RDMA 256]")
      ->check(CLI::Range(256, 65536));
  app.add_flag("--plain-data", options.plain_data, "Memory travels unencrypted");
  app.add_flag("--json", options.json, "The last line printed is the result as JSON");
  app.add_option("--keep-logs", options.keep_logs, "Where to leave everybody's output");
  CLI11_PARSE(app, argc, argv);
  if (::geteuid() != 0) {
    fmt::print(stderr, "ci/demo: it makes network namespaces and tap devices: run it as root\n");
    return 1;
  }
  StageDisplay display;
  display.text("\n  " + display.bold("A loaded web server hops from host to host") + "\n\n");
  Demo demo(options, display);
  Status ran = demo.run();
  return conclude(demo, ran, options, display);
}

}  // namespace
}  // namespace vmhop::demo

int main(int argc, char** argv) {
  return vmhop::demo::demo_main(argc, argv);
}
