#include "backend/base/ram_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "backend/base/mapping.h"

namespace vmhop {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSize = 4 * kTransparentHugePage;

uint64_t allocated(const UniqueFd& file) {
  struct stat info {};
  EXPECT_EQ(::fstat(file.get(), &info), 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

std::string name_in_proc(const UniqueFd& file) {
  std::array<char, 256> target{};
  std::string link = "/proc/self/fd/" + std::to_string(file.get());
  EXPECT_GT(::readlink(link.c_str(), target.data(), target.size() - 1), 0);
  return target.data();
}

TEST(RamFile, HasTheSizeAndTheNameAskedFor) {
  UniqueFd file = create_ram_file("vmhop-ram0", kSize).value();
  struct stat info {};
  ASSERT_EQ(::fstat(file.get(), &info), 0);
  EXPECT_EQ(info.st_size, static_cast<off_t>(kSize));
  EXPECT_NE(name_in_proc(file).find("vmhop-ram0 (deleted)"), std::string::npos);
}

TEST(RamFile, BeginsEmptyAndTakesNoMemory) {
  UniqueFd file = create_ram_file("vmhop-ram0", kSize).value();
  EXPECT_EQ(allocated(file), 0U);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_DATA), -1);
}

// As QEMU opens it.
TEST(RamFile, CanBeOpenedAgainThroughProc) {
  UniqueFd file = create_ram_file("vmhop-ram0", kSize).value();
  std::string link = "/proc/self/fd/" + std::to_string(file.get());
  UniqueFd again(::open(link.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(again.valid());
  ASSERT_EQ(::pwrite(again.get(), "x", 1, kPage), 1);
  char read = 0;
  ASSERT_EQ(::pread(file.get(), &read, 1, kPage), 1);
  EXPECT_EQ(read, 'x');
}

TEST(RamFile, ManyOfOneNameDoNotMeet) {
  UniqueFd one = create_ram_file("vmhop-ram0", kSize).value();
  UniqueFd other = create_ram_file("vmhop-ram0", kSize).value();
  ASSERT_EQ(::pwrite(one.get(), "x", 1, 0), 1);
  EXPECT_EQ(allocated(other), 0U);
}

TEST(RamFile, GivesMemoryBackWhereHolesArePunched) {
  UniqueFd file = create_ram_file("vmhop-ram0", kSize).value();
  std::array<char, kPage> page{};
  page.fill('x');
  for (uint64_t at = 0; at < kSize; at += kPage)
    ASSERT_EQ(::pwrite(file.get(), page.data(), kPage, static_cast<off_t>(at)),
              static_cast<ssize_t>(kPage));
  ASSERT_EQ(::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kPage, kPage), 0);
  EXPECT_EQ(allocated(file), kSize - kPage);
  EXPECT_EQ(::lseek(file.get(), kPage, SEEK_DATA), static_cast<off_t>(2 * kPage));
}

// What lets a page that is not populated stay so beside one that is filled: a page read for a fault
// lands in the alias.
TEST(RamFile, ATouchThroughAnAliasTakesOnePage) {
  UniqueFd file = create_ram_file("vmhop-ram0", kSize).value();
  Mapping alias = Mapping::map_shared(file.get(), kSize, Access::kReadWrite).value();
  alias.data()[5 * kPage] = std::byte{1};
  EXPECT_EQ(allocated(file), kPage);
}

TEST(RamFile, AWriteBetweenTouchedPagesTakesNoMoreThanItWrites) {
  UniqueFd file = create_ram_file("vmhop-ram0", kSize).value();
  Mapping alias = Mapping::map_shared(file.get(), kSize, Access::kReadWrite).value();
  constexpr uint64_t kFirst = 3;
  std::array<char, 18 * kPage> pages{};
  alias.data()[kFirst * kPage] = std::byte{1};
  alias.data()[kFirst * kPage + pages.size() - 1] = std::byte{1};
  ASSERT_EQ(::pwrite(file.get(), pages.data(), pages.size(), kFirst * kPage),
            static_cast<ssize_t>(pages.size()));
  EXPECT_EQ(allocated(file), pages.size());
}

}  // namespace
}  // namespace vmhop
