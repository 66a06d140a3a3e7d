#include "bench/workload.h"

#include "bench/workloads.h"
#include "tests/lab/linux_guest.h"

namespace vmhop::bench {

const std::vector<std::string>& all_workloads() {
  static const std::vector<std::string> names = {"web", "cache", "writer", "idle"};
  return names;
}

Result<std::unique_ptr<Workload>> make_workload(const WorkloadSpec& spec,
                                                const std::string& directory) {
  if (spec.name == "idle") return make_writer(spec.ram_mib, 0);
  if (spec.name == "writer") return make_writer(spec.ram_mib, spec.writer_mib_per_second);
  VMHOP_ASSIGN(std::string image, lab::find_guest_image(VMHOP_LAB_SOURCES, directory));
  return spec.name == "cache" ? make_cache(spec, image) : make_web(spec, image);
}

}  // namespace vmhop::bench
