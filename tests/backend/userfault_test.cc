#include "backend/userfault.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

#include "backend/base/ram_file.h"
#include "tests/backend/toy_vmm.h"

namespace vmhop {
namespace {

using namespace testing_support;

constexpr uint64_t kPages = 64;

// One memory file, the guest's mapping of it with userfaultfd, and an alias.
class UserfaultTest : public testing::Test {
 protected:
  void SetUp() override {
    if (auto why = ToyVmm::unavailable(); !why.empty()) GTEST_SKIP() << why;
    serve(must(create_memfd("vmhop-test", kPages * kPage)), kPages * kPage);
  }
  void serve(UniqueFd memory, uint64_t size) {
    guest_ = must(Mapping::map_shared(memory.get(), size, Access::kReadWrite));
    file_ = std::make_unique<RamRegion>(
        must(RamRegion::map({"ram", size, kPage}, std::move(memory), Access::kReadWrite)));
    userfault_ = std::make_unique<Userfault>(must(Userfault::open()));
    must(userfault_->register_range(address(0), guest_.size()));
  }

  uint64_t address(uint64_t page) const {
    return reinterpret_cast<uint64_t>(guest_.data()) + page * kPage;
  }
  void fill(uint64_t page, uint64_t value) const {
    std::memcpy(file_->alias() + page * kPage, &value, sizeof value);
  }
  uint64_t guest_reads(uint64_t page) const {
    return std::atomic_ref(*reinterpret_cast<uint64_t*>(guest_.data() + page * kPage)).load();
  }
  // The page of the next fault.
  uint64_t next_fault() const {
    pollfd entry{userfault_->fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&entry, 1, 20'000), 1);
    std::array<uint64_t, 1> faults{};
    EXPECT_EQ(must(userfault_->read_faults(faults)), 1U);
    return (faults[0] - address(0)) / kPage;
  }
  bool is_mapped(uint64_t page) const {
    UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    uint64_t entry = 0;
    auto at = static_cast<off_t>(address(page) / kPage * sizeof entry);
    EXPECT_EQ(::pread(pagemap.get(), &entry, sizeof entry, at), 8);
    return (entry >> 63U) != 0;
  }
  Status install(uint64_t page, uint64_t count) const {
    return userfault_->install(address(page), count * kPage, kPage);
  }

  Mapping guest_;
  std::unique_ptr<RamRegion> file_;
  std::unique_ptr<Userfault> userfault_;
};

TEST_F(UserfaultTest, ReportsNoFaultsWhenThereAreNone) {
  std::array<uint64_t, 4> faults{};
  EXPECT_EQ(must(userfault_->read_faults(faults)), 0U);
}

TEST_F(UserfaultTest, HoldsAGuestUntilItsPageIsInstalled) {
  std::thread guest([&] { EXPECT_EQ(guest_reads(5), 77U); });
  EXPECT_EQ(next_fault(), 5U);
  fill(5, 77);
  EXPECT_FALSE(is_mapped(5));
  must(install(5, 1));
  guest.join();
}

// The kernel takes a huge page for the first write to it, so that its other pages are in the file
// although nobody filled them.
TEST_F(UserfaultTest, HoldsAGuestAtAPageThatIsInAHugePageAndWasNotFilled) {
  userfault_.reset();
  UniqueFd memory = must(create_ram_file("vmhop-test", kTransparentHugePage));
  std::vector<std::byte> piece(16 * kPage, std::byte{1});
  ASSERT_EQ(::pwrite(memory.get(), piece.data(), piece.size(), 0),
            static_cast<ssize_t>(piece.size()));
  serve(std::move(memory), kTransparentHugePage);
  must(install(0, 16));
  EXPECT_EQ(guest_reads(15) & 0xff, 1U);
  std::thread guest([&] { EXPECT_EQ(guest_reads(16), 77U); });
  EXPECT_EQ(next_fault(), 16U);
  EXPECT_FALSE(is_mapped(16));
  fill(16, 77);
  must(install(16, 1));
  guest.join();
  EXPECT_FALSE(is_mapped(17));
}

TEST_F(UserfaultTest, InstallsRangesWholeAlsoWherePagesAreMappedAlready) {
  for (uint64_t page = 0; page < kPages; ++page)
    fill(page, page + 1);
  // EEXIST at the beginning, in the middle, twice in a row, and at the end.
  for (uint64_t page : {0, 7, 20, 21, 63})
    must(install(page, 1));
  must(install(0, kPages));
  for (uint64_t page = 0; page < kPages; ++page) {
    ASSERT_TRUE(is_mapped(page)) << page;
    EXPECT_EQ(guest_reads(page), page + 1);
  }
  EXPECT_TRUE(install(0, kPages).ok()) << "all of it once more";
}

TEST_F(UserfaultTest, WakesWhoWaitsForAPageThatIsMappedAlready) {
  fill(3, 9);
  std::thread guest([&] { EXPECT_EQ(guest_reads(3), 9U); });
  EXPECT_EQ(next_fault(), 3U);
  // Mapped, and nobody woken.
  uffdio_continue quietly{{address(3), kPage}, UFFDIO_CONTINUE_MODE_DONTWAKE, 0};
  ASSERT_EQ(::ioctl(userfault_->fd(), UFFDIO_CONTINUE, &quietly), 0);
  fill(2, 1);
  fill(4, 1);
  must(install(2, 3));
  guest.join();
}

TEST_F(UserfaultTest, RefusesToInstallAPageThatIsNotInTheFile) {
  fill(0, 1);
  fill(2, 3);
  Status installed = install(0, 3);
  ASSERT_FALSE(installed.ok());
  EXPECT_EQ(installed.error().kind(), ErrorKind::kRefused) << installed.error().message();
  EXPECT_TRUE(is_mapped(0));
  EXPECT_FALSE(is_mapped(1));
}

TEST_F(UserfaultTest, MapsZerosWhereTheFileHasNothing) {
  must(userfault_->install_zero(address(8), kPage));
  EXPECT_EQ(guest_reads(8), 0U);
}

TEST_F(UserfaultTest, MapsThePageThatTheFileHasInsteadOfZeros) {
  fill(9, 1234);
  must(userfault_->install_zero(address(9), kPage));
  EXPECT_EQ(guest_reads(9), 1234U);
  must(userfault_->install_zero(address(9), kPage));
  EXPECT_EQ(guest_reads(9), 1234U) << "mapped and asked for again";
}

TEST_F(UserfaultTest, MapsAgainWhatTheGuestWroteAfterItsMappingWasDropped) {
  must(userfault_->install_zero(address(9), kPage));
  std::memset(guest_.data() + 9 * kPage, 0x11, kPage);
  ::madvise(guest_.data() + 9 * kPage, kPage, MADV_DONTNEED);
  std::thread guest([&] { EXPECT_EQ(guest_reads(9), 0x1111111111111111U); });
  EXPECT_EQ(next_fault(), 9U);
  must(userfault_->install_zero(address(9), kPage));
  guest.join();
}

TEST_F(UserfaultTest, LetsWhoIsWokenFaultAgain) {
  std::thread guest([&] { EXPECT_EQ(guest_reads(5), 77U); });
  EXPECT_EQ(next_fault(), 5U);
  must(userfault_->wake(address(0), kPages * kPage));
  EXPECT_EQ(next_fault(), 5U);
  fill(5, 77);
  must(install(5, 1));
  guest.join();
}

TEST_F(UserfaultTest, EndsAllWaitingWhenItUnregisters) {
  std::thread seen([&] { EXPECT_EQ(guest_reads(5), 0U); });
  EXPECT_EQ(next_fault(), 5U);
  std::thread unseen([&] { EXPECT_EQ(guest_reads(6), 0U); });
  pollfd entry{userfault_->fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 20'000), 1);
  must(userfault_->unregister_range(address(0), kPages * kPage));
  seen.join();
  unseen.join();
  EXPECT_EQ(guest_reads(40), 0U) << "nobody is asked any more";
}

// The kernel's own wake-up comes before it stops to report faults (see unregister_range()).
TEST_F(UserfaultTest, LeavesNoFaultBehindThatComesWhileItUnregisters) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<unsigned> running = 0;
    std::vector<std::thread> guests;
    for (uint64_t t = 0; t < 2; ++t) {
      guests.emplace_back([&, t] {
        ++running;
        for (uint64_t page = t; page < kPages; page += 2)
          guest_reads(page);
      });
    }
    while (running < 2)
      std::this_thread::yield();
    must(userfault_->unregister_range(address(0), kPages * kPage));
    for (std::thread& guest : guests)
      guest.join();
    ::madvise(guest_.data(), guest_.size(), MADV_REMOVE);
    must(userfault_->register_range(address(0), guest_.size()));
  }
}

TEST(Userfault, SaysWhatIsNoUserfaultfd) {
  auto [left, right] = must(socket_pair(SOCK_SEQPACKET));
  Userfault not_one(std::move(left));
  EXPECT_FALSE(not_one.register_range(0, kPage).ok());
  EXPECT_FALSE(not_one.unregister_range(0, kPage).ok());
  EXPECT_FALSE(not_one.install(0, kPage, kPage).ok());
  EXPECT_FALSE(not_one.install_zero(0, kPage).ok());
  EXPECT_FALSE(not_one.wake(0, kPage).ok());
}

}  // namespace
}  // namespace vmhop
