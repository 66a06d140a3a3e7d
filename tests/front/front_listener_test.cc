#include "qemu-memory-backend/front_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "qemu-memory-backend/front_handshake.h"
#include "tests/front/temporary_directory.h"

namespace vmhop {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr uint64_t kSize = 1 << 20;

UniqueFd open_userfaultfd(int flags = O_NONBLOCK) {
  return UniqueFd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | flags)));
}

vmhop_front_region good_region() {
  vmhop_front_region region{};
  region.magic = VMHOP_FRONT_REGION_MAGIC;
  region.version = VMHOP_FRONT_VERSION;
  region.kind = VMHOP_FRONT_LAZY_REGION;
  region.features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
  region.range_ioctls =
      (1ULL << _UFFDIO_WAKE) | (1ULL << _UFFDIO_CONTINUE) | (1ULL << _UFFDIO_ZEROPAGE);
  region.host_address = 0x7f0000000000;
  region.size = kSize;
  region.page_size = static_cast<uint32_t>(::sysconf(_SC_PAGESIZE));
  std::strncpy(region.id, "ram0", sizeof region.id - 1);
  return region;
}

class FrontListenerTest : public testing::Test {
 protected:
  // Plays the front: connects and sends `bytes` with `fds`.
  void send(std::span<const std::byte> bytes, const std::vector<UniqueFd>& fds) {
    connection_ = connect_unix(listener_.path(), SOCK_SEQPACKET).value();
    std::vector<int> numbers;
    numbers.reserve(fds.size());
    for (const UniqueFd& fd : fds)
      numbers.push_back(fd.get());
    ASSERT_TRUE(send_with_fds(connection_.get(), bytes, numbers).ok());
  }
  void send(const vmhop_front_region& region, const std::vector<UniqueFd>& fds) {
    send(std::as_bytes(std::span(&region, 1)), fds);
  }
  static std::vector<UniqueFd> good_fds() {
    std::vector<UniqueFd> fds;
    fds.push_back(open_userfaultfd());
    fds.push_back(create_memfd("ram", kSize).value());
    return fds;
  }
  vmhop_front_answer answer() {
    auto received = receive_with_fds(connection_.get(), 1000).value();
    vmhop_front_answer answer{};
    EXPECT_EQ(received.bytes.size(), sizeof answer);
    std::memcpy(&answer, received.bytes.data(), sizeof answer);
    EXPECT_EQ(answer.magic, VMHOP_FRONT_ANSWER_MAGIC);
    EXPECT_EQ(answer.version, VMHOP_FRONT_VERSION);
    return answer;
  }
  // The listener refuses what was sent, in the same words to its caller and to the front.
  void expect_refusal(const std::string& why) {
    auto offer = listener_.receive(seconds(20));
    ASSERT_FALSE(offer.ok());
    EXPECT_THAT(offer.error().message(), HasSubstr(why));
    vmhop_front_answer refused = answer();
    EXPECT_EQ(refused.status, VMHOP_FRONT_REFUSED);
    EXPECT_THAT(refused.message, HasSubstr(why));
  }

  test::TemporaryDirectory directory_;
  FrontListener listener_ = FrontListener::listen(directory_ / "front").value();
  UniqueFd connection_;
};

TEST_F(FrontListenerTest, ReceivesARegionAndAccepts) {
  send(good_region(), good_fds());
  auto offer = listener_.receive(seconds(20));
  ASSERT_TRUE(offer.ok()) << offer.error().message();
  EXPECT_EQ(offer->region.id, "ram0");
  EXPECT_EQ(offer->region.address, 0x7f0000000000U);
  EXPECT_EQ(offer->region.size, kSize);
  EXPECT_EQ(offer->region.page_size, ::sysconf(_SC_PAGESIZE));
  EXPECT_EQ(offer->region.pid, ::getpid());
  EXPECT_EQ(::fcntl(offer->region.userfaultfd.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(offer->region.memfd.get(), F_GETFD), FD_CLOEXEC);
  ASSERT_TRUE(offer->accept().ok());
  EXPECT_EQ(answer().status, VMHOP_FRONT_ACCEPTED);
}

TEST_F(FrontListenerTest, ALazyRegionIsNotWatched) {
  send(good_region(), good_fds());
  auto offer = listener_.receive(seconds(20));
  ASSERT_TRUE(offer.ok());
  EXPECT_FALSE(offer->region.watched);
  EXPECT_FALSE(offer->region.again);
}

TEST_F(FrontListenerTest, TellsTheFrontOfAWatchedRegionHowFarItIs) {
  vmhop_front_region region = good_region();
  region.kind = VMHOP_FRONT_WATCHED_REGION;
  send(region, good_fds());
  auto offer = listener_.receive(seconds(20));
  ASSERT_TRUE(offer.ok()) << offer.error().message();
  EXPECT_TRUE(offer->region.watched);
  EXPECT_FALSE(offer->region.again);
  ASSERT_TRUE(offer->accept().ok());
  EXPECT_EQ(answer().status, VMHOP_FRONT_ACCEPTED);

  UniqueFd connection = offer->take_connection();
  FrontProgress progress{.resident = 4096, .faults = 7, .drained = true};
  ASSERT_TRUE(send_front_progress(connection, progress).ok());
  auto received = receive_with_fds(connection_.get(), 1000).value();
  vmhop_front_progress wire{};
  ASSERT_EQ(received.bytes.size(), sizeof wire);
  std::memcpy(&wire, received.bytes.data(), sizeof wire);
  EXPECT_EQ(wire.magic, VMHOP_FRONT_PROGRESS_MAGIC);
  EXPECT_EQ(wire.version, VMHOP_FRONT_VERSION);
  EXPECT_EQ(wire.flags, VMHOP_FRONT_DRAINED);
  EXPECT_EQ(wire.resident, 4096U);
  EXPECT_EQ(wire.faults, 7U);
}

TEST_F(FrontListenerTest, ReceivesAWatchedRegionAgain) {
  vmhop_front_region region = good_region();
  region.kind = VMHOP_FRONT_WATCHED_REGION;
  region.flags = VMHOP_FRONT_REGION_AGAIN;
  send(region, good_fds());
  auto offer = listener_.receive(seconds(20));
  ASSERT_TRUE(offer.ok()) << offer.error().message();
  EXPECT_TRUE(offer->region.again);
}

TEST_F(FrontListenerTest, NeverWaitsForAFrontThatDoesNotReadItsProgress) {
  auto [front, connection] = socket_pair(SOCK_SEQPACKET).value();
  Status told = ok_status();
  while (told.ok())
    told = send_front_progress(connection, {});
  EXPECT_EQ(told.error().kind(), ErrorKind::kTimedOut);
  front.reset();
  EXPECT_EQ(send_front_progress(connection, {}).error().kind(), ErrorKind::kClosed);
}

TEST_F(FrontListenerTest, RefusesInTheCallersWordsCutToWhatFits) {
  send(good_region(), good_fds());
  auto offer = listener_.receive(seconds(20));
  ASSERT_TRUE(offer.ok());
  ASSERT_TRUE(offer->refuse("no such region" + std::string(1000, '!')).ok());
  vmhop_front_answer refused = answer();
  EXPECT_EQ(refused.status, VMHOP_FRONT_REFUSED);
  EXPECT_THAT(refused.message, HasSubstr("no such region"));
  EXPECT_EQ(std::strlen(refused.message), sizeof refused.message - 1);
}

TEST_F(FrontListenerTest, AnOfferDroppedUnansweredEndsTheConnection) {
  send(good_region(), good_fds());
  ASSERT_TRUE(listener_.receive(seconds(20)).ok());
  auto received = receive_with_fds(connection_.get(), 1000);
  ASSERT_FALSE(received.ok());
  EXPECT_EQ(received.error().kind(), ErrorKind::kClosed);
}

TEST_F(FrontListenerTest, RefusesEachMalformedField) {
  struct Case {
    const char* why;
    std::function<void(vmhop_front_region&)> spoil;
  };
  const std::vector<Case> cases{
      {"begins with", [](auto& region) { region.magic ^= 1; }},
      {"speaks version 2", [](auto& region) { region.version = 2; }},
      {"kind 0 is unknown", [](auto& region) { region.kind = 0; }},
      {"kind 3 is unknown", [](auto& region) { region.kind = 3; }},
      {"kind 1 with flags 0x1", [](auto& region) { region.flags = VMHOP_FRONT_REGION_AGAIN; }},
      {"kind 2 with flags 0x3",
       [](auto& region) {
         region.kind = VMHOP_FRONT_WATCHED_REGION;
         region.flags = 3;
       }},
      {"features", [](auto& region) { region.features = UFFD_FEATURE_MISSING_SHMEM; }},
      {"features", [](auto& region) { region.features |= UFFD_FEATURE_SIGBUS; }},
      {"lack", [](auto& region) { region.range_ioctls &= ~(1ULL << _UFFDIO_CONTINUE); }},
      {"lack", [](auto& region) { region.range_ioctls &= ~(1ULL << _UFFDIO_WAKE); }},
      {"is no address", [](auto& region) { region.host_address = 0; }},
      {"is no address", [](auto& region) { region.host_address += 1; }},
      {"is no address", [](auto& region) { region.host_address = 0 - uint64_t{4096}; }},
      {"number of pages", [](auto& region) { region.size = 0; }},
      {"number of pages", [](auto& region) { region.size -= 1; }},
      {"are mapped of a memory file", [](auto& region) { region.size *= 2; }},
      {"not a page size", [](auto& region) { region.page_size = 0; }},
      {"not a page size", [](auto& region) { region.page_size = 2048; }},
      {"not a page size", [](auto& region) { region.page_size += 1; }},
      {"has pages of", [](auto& region) { region.page_size *= 2; }},
      {"id is empty", [](auto& region) { region.id[0] = '\0'; }},
      {"not terminated", [](auto& region) { std::memset(region.id, 'x', sizeof region.id); }},
      {"more than zeros", [](auto& region) { region.id[200] = 'x'; }},
      {"printable", [](auto& region) { region.id[1] = '\n'; }},
  };
  for (const Case& malformed : cases) {
    SCOPED_TRACE(malformed.why);
    vmhop_front_region region = good_region();
    malformed.spoil(region);
    send(region, good_fds());
    expect_refusal(malformed.why);
  }
}

TEST_F(FrontListenerTest, RefusesMessagesOfAnotherSize) {
  vmhop_front_region region = good_region();
  auto bytes = std::as_bytes(std::span(&region, 1));
  send(bytes.first(bytes.size() - 1), good_fds());
  expect_refusal("a region has");
  std::vector<std::byte> longer(bytes.begin(), bytes.end());
  longer.push_back(std::byte{0});
  send(longer, good_fds());
  expect_refusal("longer than");
}

TEST_F(FrontListenerTest, RefusesOtherDescriptorsThanItNeeds) {
  send(good_region(), {});
  expect_refusal("0 descriptors instead of 2");

  auto fds = good_fds();
  fds.push_back(create_memfd("third", kSize).value());
  send(good_region(), fds);
  expect_refusal("3 descriptors instead of 2");

  fds = good_fds();
  std::swap(fds[0], fds[1]);
  send(good_region(), fds);
  expect_refusal("first descriptor is not a userfaultfd");

  fds = good_fds();
  fds[0] = open_userfaultfd(0);
  send(good_region(), fds);
  expect_refusal("non-blocking");

  fds = good_fds();
  fds[1] = UniqueFd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  send(good_region(), fds);
  expect_refusal("second descriptor is not a memory file");
}

TEST_F(FrontListenerTest, GoesOnAfterARefusal) {
  vmhop_front_region region = good_region();
  region.kind = 9;
  send(region, good_fds());
  expect_refusal("kind 9");
  send(good_region(), good_fds());
  EXPECT_TRUE(listener_.receive(seconds(20)).ok());
}

TEST_F(FrontListenerTest, TimesOutWhenNobodyConnectsOrSends) {
  auto nobody = listener_.receive(milliseconds(1));
  ASSERT_FALSE(nobody.ok());
  EXPECT_EQ(nobody.error().kind(), ErrorKind::kTimedOut);
  connection_ = connect_unix(listener_.path(), SOCK_SEQPACKET).value();
  auto silent = listener_.receive(milliseconds(1));
  ASSERT_FALSE(silent.ok());
  EXPECT_EQ(silent.error().kind(), ErrorKind::kTimedOut);
}

TEST_F(FrontListenerTest, WaitsForTheMessageOfAFrontThatConnectedInTime) {
  connection_ = connect_unix(listener_.path(), SOCK_SEQPACKET).value();
  std::thread receiver([&] { EXPECT_TRUE(listener_.receive(milliseconds(0)).ok()); });
  vmhop_front_region region = good_region();
  auto fds = good_fds();
  std::array<int, 2> numbers{fds[0].get(), fds[1].get()};
  EXPECT_TRUE(send_with_fds(connection_.get(), std::as_bytes(std::span(&region, 1)), numbers).ok());
  receiver.join();
}

TEST_F(FrontListenerTest, IsReadableWhenAFrontWaits) {
  EXPECT_EQ(wait_fd(listener_.fd(), POLLIN, 0).value(), 0);
  send(good_region(), good_fds());
  EXPECT_EQ(wait_fd(listener_.fd(), POLLIN, 20'000).value(), POLLIN);
}

TEST(FrontListener, RemovesItsSocketWhenItGoes) {
  test::TemporaryDirectory directory;
  std::string path = directory / "front";
  auto listener = std::make_unique<FrontListener>(FrontListener::listen(path).value());
  EXPECT_TRUE(std::filesystem::exists(path));
  listener.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace vmhop
