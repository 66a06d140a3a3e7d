#include "backend/session/key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string_view>
#include <vector>

#include "backend/base/fd.h"

namespace vmhop {
namespace {

using testing::HasSubstr;

class KeyFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "vmhop-key-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const char* name) const { return folder_ / name; }
  std::string write(const std::string& content, mode_t mode = 0600) const {
    std::ofstream(path("key")) << content;
    ::chmod(path("key").c_str(), mode);
    return path("key");
  }
  static mode_t mode_of(const std::string& path) {
    struct stat info {};
    ::stat(path.c_str(), &info);
    return info.st_mode & 07777;
  }

  std::filesystem::path folder_;
};

TEST_F(KeyFile, IsReadBackAsItWasWritten) {
  ASSERT_TRUE(write_new_key(path("key")).ok());
  auto first = load_key(path("key"));
  ASSERT_TRUE(first.ok()) << first.error().message();
  std::string content = read_file(path("key"), 200).value();
  EXPECT_EQ(content, "vmhop-key-1 " + first->to_hex() + "\n");
}

TEST_F(KeyFile, IsForItsOwnerOnlyAndSoIsItsNewFolder) {
  ASSERT_TRUE(write_new_key(path("new/key")).ok());
  EXPECT_EQ(mode_of(path("new/key")), 0600U);
  EXPECT_EQ(mode_of(path("new")), 0700U);
}

TEST_F(KeyFile, IsNeverTheSameTwice) {
  ASSERT_TRUE(write_new_key(path("a")).ok());
  ASSERT_TRUE(write_new_key(path("b")).ok());
  EXPECT_FALSE(load_key(path("a")).value() == load_key(path("b")).value());
}

TEST_F(KeyFile, IsNeverOverwritten) {
  ASSERT_TRUE(write_new_key(path("key")).ok());
  std::string before = read_file(path("key"), 200).value();
  Status again = write_new_key(path("key"));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(again.error().message(), HasSubstr("never overwritten"));
  EXPECT_EQ(read_file(path("key"), 200).value(), before);
}

TEST_F(KeyFile, ThatIsMissingNamesTheRemedy) {
  auto key = load_key(path("none"));
  ASSERT_FALSE(key.ok());
  EXPECT_EQ(key.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(key.error().message(), HasSubstr("vmhop keygen"));
}

TEST_F(KeyFile, ThatOthersCanReadOrWriteIsRefused) {
  const std::string good = "vmhop-key-1 " + std::string(64, 'a') + "\n";
  for (mode_t mode : {0640U, 0604U, 0620U, 0602U, 0644U}) {
    auto key = load_key(write(good, mode));
    ASSERT_FALSE(key.ok()) << std::oct << mode;
    EXPECT_THAT(key.error().message(), HasSubstr("chmod 600"));
  }
  EXPECT_TRUE(load_key(write(good, 0600)).ok());
  EXPECT_TRUE(load_key(write(good, 0400)).ok());
}

TEST_F(KeyFile, InAnyOtherFormatIsRefused) {
  const std::string digits(64, 'a');
  for (const std::string& content :
       {std::string(), std::string("\n"), digits, "vmhop-key-2 " + digits + "\n",
        "vmhop-key-1 " + digits.substr(1) + "\n", "vmhop-key-1 " + digits + "a\n",
        "vmhop-key-1 " + digits.substr(1) + "g\n", "vmhop-key-1 " + digits + "\n\n",
        "vmhop-key-1 " + digits + "\nmore", "vmhop-key-1  " + digits.substr(1) + "\n",
        std::string(10000, 'x')}) {
    auto key = load_key(write(content));
    ASSERT_FALSE(key.ok()) << content;
    EXPECT_THAT(key.error().message(), HasSubstr("not a vmhop key file"));
  }
  EXPECT_FALSE(load_key(folder_).ok());
}

TEST_F(KeyFile, OfSomebodyElseIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a file away";
  std::string key = write("vmhop-key-1 " + std::string(64, 'a') + "\n");
  ASSERT_EQ(::chown(key.c_str(), 65534, 65534), 0);
  auto loaded = load_key(key);
  ASSERT_FALSE(loaded.ok());
  EXPECT_THAT(loaded.error().message(), HasSubstr("another user"));
}

TEST(DefaultKeyPath, DependsOnTheUser) {
  if (::geteuid() == 0) {
    EXPECT_EQ(default_key_path(), "/etc/vmhop/key");
  } else {
    EXPECT_THAT(default_key_path(), testing::EndsWith("/vmhop/key"));
  }
}

TEST(Secret, TravelsAsHex) {
  auto secret = Secret::random().value();
  std::string hex = secret.to_hex();
  EXPECT_EQ(hex.size(), 64U);
  EXPECT_TRUE(Secret::from_hex(hex).value() == secret);
  EXPECT_FALSE(Secret::from_hex(hex.substr(1)).ok());
  cleanse(hex);
  EXPECT_TRUE(hex.empty());
}

TEST(Secret, IsOneOfManyWithoutRunningOut) {
  std::vector<Secret> secrets;
  secrets.reserve(4000);
  for (int i = 0; i < 4000; ++i)
    secrets.push_back(Secret::random().value());
  EXPECT_FALSE(secrets.front() == secrets.back());
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// A message in parts is the message.
TEST(Hmac, JoinsItsParts) {
  auto key = Secret::from_hex(std::string(64, '0')).value();
  std::array whole{bytes_of("one two")};
  std::array parts{bytes_of("one"), bytes_of(" two")};
  EXPECT_TRUE(hmac(key, whole).value() == hmac(key, parts).value());
}

// Made with: openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:0001…1f
//            -kdfopt info:"vmhop test" HKDF
TEST(Derive, IsHkdfOfRfc5869) {
  auto key =
      Secret::from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").value();
  EXPECT_EQ(derive(key, "vmhop test").value().to_hex(),
            "4e9215af6115b361a2a20b9da8a4b4f5cc2b26e927a343c0ff2b89196414820d");
}

TEST(Derive, GivesEachLabelASecretOfItsOwn) {
  auto key = Secret::random().value();
  EXPECT_TRUE(derive(key, "a").value() == derive(key, "a").value());
  EXPECT_FALSE(derive(key, "a").value() == derive(key, "b").value());
  EXPECT_FALSE(derive(key, "a").value() == key);
}

}  // namespace
}  // namespace vmhop
