// The object in QEMU speaks by a header of its own, which is part of the patches: the same
// messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "qemu-memory-backend/front_handshake.h"
#include "qemu-memory-backend/qemu/postcopy-pager.h"

namespace vmhop {
namespace {

#define SAME_FIELD(type, qemu_type, field)                            \
  static_assert(offsetof(type, field) == offsetof(qemu_type, field)); \
  static_assert(sizeof(type::field) == sizeof(qemu_type::field))

static_assert(sizeof(vmhop_front_region) == sizeof(PostcopyPagerRegion));
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, magic);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, version);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, kind);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, features);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, range_ioctls);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, host_address);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, size);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, page_size);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, flags);
SAME_FIELD(vmhop_front_region, PostcopyPagerRegion, id);

static_assert(sizeof(vmhop_front_answer) == sizeof(PostcopyPagerAnswer));
SAME_FIELD(vmhop_front_answer, PostcopyPagerAnswer, magic);
SAME_FIELD(vmhop_front_answer, PostcopyPagerAnswer, version);
SAME_FIELD(vmhop_front_answer, PostcopyPagerAnswer, status);
SAME_FIELD(vmhop_front_answer, PostcopyPagerAnswer, message);

static_assert(sizeof(vmhop_front_progress) == sizeof(PostcopyPagerProgress));
SAME_FIELD(vmhop_front_progress, PostcopyPagerProgress, magic);
SAME_FIELD(vmhop_front_progress, PostcopyPagerProgress, version);
SAME_FIELD(vmhop_front_progress, PostcopyPagerProgress, flags);
SAME_FIELD(vmhop_front_progress, PostcopyPagerProgress, resident);
SAME_FIELD(vmhop_front_progress, PostcopyPagerProgress, faults);

static_assert(VMHOP_FRONT_REGION_MAGIC == POSTCOPY_PAGER_REGION_MAGIC);
static_assert(VMHOP_FRONT_ANSWER_MAGIC == POSTCOPY_PAGER_ANSWER_MAGIC);
static_assert(VMHOP_FRONT_PROGRESS_MAGIC == POSTCOPY_PAGER_PROGRESS_MAGIC);
static_assert(VMHOP_FRONT_VERSION == POSTCOPY_PAGER_VERSION);
static_assert(VMHOP_FRONT_WATCHED_REGION == POSTCOPY_PAGER_WATCHED_REGION);
static_assert(VMHOP_FRONT_REGION_AGAIN == POSTCOPY_PAGER_REGION_AGAIN);
static_assert(VMHOP_FRONT_FD_USERFAULTFD == POSTCOPY_PAGER_FD_USERFAULTFD);
static_assert(VMHOP_FRONT_FD_MEMFD == POSTCOPY_PAGER_FD_MEMFD);
static_assert(VMHOP_FRONT_FD_COUNT == POSTCOPY_PAGER_FD_COUNT);
static_assert(VMHOP_FRONT_ACCEPTED == POSTCOPY_PAGER_ACCEPTED);
static_assert(VMHOP_FRONT_REFUSED == POSTCOPY_PAGER_REFUSED);
static_assert(VMHOP_FRONT_DRAINED == POSTCOPY_PAGER_DRAINED);

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// All patches of one version of QEMU, one after the other.
std::string patches(const std::string& version) {
  std::string all;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(VMHOP_QEMU_PATCHES) / version)) {
    all += contents(entry.path());
  }
  return all;
}

class QemuPatches : public testing::TestWithParam<const char*> {};

TEST_P(QemuPatches, CarryTheHeaderThatIsTestedHere) {
  std::string header = contents(std::filesystem::path(VMHOP_QEMU_PATCHES) / "postcopy-pager.h");
  std::string added;
  std::istringstream lines(header);
  for (std::string line; std::getline(lines, line);)
    added += "\n+" + line;
  added += "\n";
  EXPECT_THAT(patches(GetParam()), testing::HasSubstr("+++ b/include/qemu/postcopy-pager.h"));
  EXPECT_NE(patches(GetParam()).find(added), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Version, QemuPatches, testing::Values("7.2", "10.0"));

}  // namespace
}  // namespace vmhop
