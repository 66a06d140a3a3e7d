// Where a key is while it is used, and where it is not.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "backend/session/identity.h"
#include "backend/session/key.h"
#include "backend/session/key_passing.h"
#include "tests/base/core_search.h"
#include "tests/base/working_process.h"

namespace vmhop {
namespace {

using namespace testing_support;

std::string text_of(const Secret& secret) {
  return {reinterpret_cast<const char*>(secret.bytes().data()), Secret::kSize};
}

TEST(KeyPassing, GivesWhatWasPassedAndOnlyOnce) {
  Secret key = Secret::random().value();
  UniqueFd passed = pass_credentials(key.clone()).value();
  UniqueFd again = passed.duplicate().value();
  EXPECT_TRUE(*take_credentials(std::move(passed)).value().key() == key);
  EXPECT_FALSE(take_credentials(std::move(again)).ok());
}

TEST(KeyPassing, NeitherWaitsForAKeyNorTakesAPartOfOne) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  UniqueFd write_end(ends[1]);
  UniqueFd read_end(ends[0]);
  EXPECT_FALSE(take_credentials(read_end.duplicate().value()).ok());
  ASSERT_EQ(::write(write_end.get(), "short", 5), 5);
  EXPECT_FALSE(take_credentials(std::move(read_end)).ok());
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

class KeyInUse : public testing::Test {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "a sanitizer's memory is too large to look through";
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
  WorkingProcess maker([this] { (void)write_new_key(path()); });
  expect_no_core_with_the_key(maker.pid());
}

TEST_F(KeyInUse, IsInNoCoreOfWhoReadItDerivesFromItAndPassesItOn) {
  WorkingProcess maker([this] { (void)write_new_key(path()); });
  static std::optional<Secret> kept;
  WorkingProcess user([this] {
    kept = load_key(path()).value();
    (void)session_psk(*kept, {"vm"}).value();
    kept = take_credentials(pass_credentials(kept->clone()).value()).value().key()->clone();
  });
  expect_no_core_with_the_key(user.pid());
}

// The search itself finds what is there.
TEST_F(KeyInUse, WouldBeFound) {
  WorkingProcess maker([this] { (void)write_new_key(path()); });
  static std::string careless;
  WorkingProcess user([this] { careless = load_key(path()).value().to_hex(); });
  EXPECT_NE(find_in_core(user.pid(), load_key(path()).value().to_hex()), "");
}

}  // namespace
}  // namespace vmhop
