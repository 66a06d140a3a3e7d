// Where a key is while it is used, and where it is not.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>

#include "backend/session/identity.h"
#include "backend/session/key.h"
#include "backend/session/key_passing.h"
#include "tests/base/core_search.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VMHOP_SANITIZED 1
#else
#define VMHOP_SANITIZED 0
#endif

namespace vmhop {
namespace {

using namespace testing_support;

std::string text_of(const Secret& secret) {
  return {reinterpret_cast<const char*>(secret.bytes().data()), Secret::kSize};
}

TEST(KeyPassing, GivesWhatWasPassedAndOnlyOnce) {
  Secret key = Secret::random().value();
  UniqueFd passed = pass_key(key).value();
  UniqueFd again = passed.duplicate().value();
  EXPECT_TRUE(take_key(std::move(passed)).value() == key);
  EXPECT_FALSE(take_key(std::move(again)).ok());
}

TEST(KeyPassing, NeitherWaitsForAKeyNorTakesAPartOfOne) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  UniqueFd write_end(ends[1]);
  UniqueFd read_end(ends[0]);
  EXPECT_FALSE(take_key(read_end.duplicate().value()).ok());
  ASSERT_EQ(::write(write_end.get(), "short", 5), 5);
  EXPECT_FALSE(take_key(std::move(read_end)).ok());
}

TEST(SecretMemory, IsLeftOutOfCoreDumps) {
  Secret key = Secret::random().value();
  auto address = reinterpret_cast<uint64_t>(key.bytes().data());
  for (const MappedRange& range : mapped_ranges(::getpid())) {
    if (address >= range.begin && address < range.end) {
      EXPECT_TRUE(range.has("dd")) << range.header << range.flags;
      return;
    }
  }
  FAIL() << "it is nowhere";
}

TEST(SecretMemory, IsOverwrittenWhenTheSecretGoes) {
  // OpenSSL's secure heap stays mapped: what is left there can be looked at.
  std::string before;
  const char* place = nullptr;
  {
    Secret key = Secret::random().value();
    before = text_of(key);
    place = reinterpret_cast<const char*>(key.bytes().data());
  }
  EXPECT_NE(std::memcmp(place, before.data(), before.size()), 0);
}

// A process that waits for its end after `work`.
class Working {
 public:
  explicit Working(const std::function<void()>& work) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) {
      work();
      (void)!::write(write_end.get(), "", 1);
      for (;;)
        ::pause();
    }
    EXPECT_GT(wait_fd(read_end.get(), POLLIN, 20'000).value(), 0);
  }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;
  ~Working() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

class KeyInUse : public testing::Test {
 protected:
  void SetUp() override {
    if (VMHOP_SANITIZED) GTEST_SKIP() << "a sanitizer's memory is too large to look through";
    std::string pattern = testing::TempDir() + "vmhop-core-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/key"; }
  // Whatever was done by that process with the key in path(): no core of it would have the key.
  void expect_no_core_with_the_key(pid_t pid) const {
    Secret key = load_key(path()).value();
    EXPECT_EQ(find_in_core(pid, text_of(key)), "");
    EXPECT_EQ(find_in_core(pid, key.to_hex()), "");
  }

  std::string folder_;
};

TEST_F(KeyInUse, IsInNoCoreOfWhoMadeIt) {
  Working maker([this] { (void)write_new_key(path()); });
  expect_no_core_with_the_key(maker.pid());
}

TEST_F(KeyInUse, IsInNoCoreOfWhoReadItDerivesFromItAndPassesItOn) {
  Working maker([this] { (void)write_new_key(path()); });
  static std::optional<Secret> kept;
  Working user([this] {
    kept = load_key(path()).value();
    (void)session_psk(*kept, {"vm"}).value();
    kept = take_key(pass_key(*kept).value()).value();
  });
  expect_no_core_with_the_key(user.pid());
}

// The search itself finds what is there.
TEST_F(KeyInUse, WouldBeFound) {
  Working maker([this] { (void)write_new_key(path()); });
  static std::string careless;
  Working user([this] { careless = load_key(path()).value().to_hex(); });
  EXPECT_NE(find_in_core(user.pid(), load_key(path()).value().to_hex()), "");
}

}  // namespace
}  // namespace vmhop
