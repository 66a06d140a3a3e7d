// What it costs to fill pages of a fresh memory file, to install them for a guest, to read them as
// a source does, and to free them: a memfd filled through a mapping or by pwrite() from a buffer,
// and a file in huge pages (base/ram_file.h). CPU time, by turns in one run.
//
//   fill_memory [--mib N] [--rounds N] [--json]
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "backend/base/fd.h"
#include "backend/base/mapping.h"
#include "backend/base/ram_file.h"
#include "backend/userfault.h"

namespace vmhop::bench {
namespace {

constexpr size_t kPiece = 256 << 10;  // as one background read
constexpr size_t kPage = 4096;
constexpr std::byte kFilling{7};

enum class Way { kMapping, kPwrite, kPwriteOfPages, kHugePwrite };
constexpr std::array kWays{Way::kMapping, Way::kPwrite, Way::kPwriteOfPages, Way::kHugePwrite};

const char* name_of(Way way) {
  switch (way) {
    case Way::kMapping:
      return "mapping";
    case Way::kPwrite:
      return "pwrite";
    case Way::kPwriteOfPages:
      return "pwrite_page";
    case Way::kHugePwrite:
      return "huge_pwrite";
  }
  return "";
}

struct Costs {  // seconds of CPU
  std::vector<double> fill;
  std::vector<double> install;
  std::vector<double>
      read;  // by a process that has not mapped it before, all mappings undone after
  std::vector<double> free;
};

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Status fill(Way way, int file, std::byte* mapped, size_t size, const std::vector<std::byte>& data) {
  size_t step = way == Way::kPwriteOfPages ? kPage : kPiece;
  for (size_t at = 0; at < size; at += step) {
    if (way == Way::kMapping) {
      std::memcpy(mapped + at, data.data(), step);
    } else if (::pwrite(file, data.data(), step, static_cast<off_t>(at)) !=
               static_cast<ssize_t>(step)) {
      return Error::from_errno("pwrite", errno);
    }
  }
  return ok_status();
}

Status read_all(int file, size_t size) {
  VMHOP_ASSIGN(Mapping mapping, Mapping::map_shared(file, size, Access::kRead));
  for (size_t at = 0; at < size; at += kPage) {
    if (*static_cast<volatile std::byte*>(mapping.data() + at) != kFilling)
      return Error("the file does not have what was written");
  }
  return ok_status();
}

Status fill_and_install(Way way, int file, size_t size, Costs& costs) {
  VMHOP_ASSIGN(Mapping alias, Mapping::map_shared(file, size, Access::kReadWrite));
  VMHOP_ASSIGN(Mapping guest, Mapping::map_shared(file, size, Access::kReadWrite));
  VMHOP_ASSIGN(Userfault userfault, Userfault::open());
  auto address = reinterpret_cast<uint64_t>(guest.data());
  VMHOP_TRY(userfault.register_range(address, size));
  std::vector<std::byte> data(kPiece, kFilling);
  double start = cpu_seconds();
  VMHOP_TRY(fill(way, file, alias.data(), size, data));
  double filled = cpu_seconds();
  for (size_t at = 0; at < size; at += kPiece)
    VMHOP_TRY(userfault.install(address + at, kPiece, kPage));
  costs.fill.push_back(filled - start);
  costs.install.push_back(cpu_seconds() - filled);
  return userfault.unregister_range(address, size);
}

Status measure(Way way, size_t size, Costs& costs) {
  VMHOP_ASSIGN(UniqueFd file, way == Way::kHugePwrite ? create_ram_file("fill", size)
                                                      : create_memfd("fill", size));
  VMHOP_TRY(fill_and_install(way, file.get(), size, costs));
  double start = cpu_seconds();
  VMHOP_TRY(read_all(file.get(), size));
  costs.read.push_back(cpu_seconds() - start);
  start = cpu_seconds();
  file.reset();
  costs.free.push_back(cpu_seconds() - start);
  return ok_status();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Status run(size_t mib, unsigned rounds, bool as_json) {
  std::map<Way, Costs> costs;
  for (unsigned round = 0; round < rounds; ++round) {
    for (Way way : kWays)
      VMHOP_TRY(measure(way, mib << 20, costs[way]));
  }
  nlohmann::json report = {{"mib", mib}};
  if (!as_json)
    fmt::print("{:<12} {:>9} {:>9} {:>9} {:>9}   s of CPU\n", "", "fill", "install", "read",
               "free");
  for (Way way : kWays) {
    const Costs& cost = costs[way];
    report[name_of(way)] = {{"fill_s", median(cost.fill)},
                            {"install_s", median(cost.install)},
                            {"read_s", median(cost.read)},
                            {"free_s", median(cost.free)}};
    if (!as_json) {
      fmt::print("{:<12} {:>9.3f} {:>9.3f} {:>9.3f} {:>9.3f}\n", name_of(way), median(cost.fill),
                 median(cost.install), median(cost.read), median(cost.free));
    }
  }
  if (as_json) fmt::print("{}\n", report.dump());
  return ok_status();
}

}  // namespace
}  // namespace vmhop::bench

int main(int argc, char** argv) {
  CLI::App app{"What it costs to fill the pages of a memory file"};
  size_t mib = 1024;
  unsigned rounds = 5;
  bool json = false;
  app.add_option("--mib", mib, "Size of the file")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--rounds", rounds, "Turns of each way")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--json", json, "Print JSON");
  CLI11_PARSE(app, argc, argv);
  if (auto done = vmhop::bench::run(mib, rounds, json); !done) {
    fmt::print(stderr, "fill_memory: {}\n", done.error().message());
    return 1;
  }
  return 0;
}
