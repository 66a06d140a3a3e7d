// What is read of a directory of certificates, what is wrong with it, and where the key goes.
#include "backend/session/certificate_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "backend/session/key_passing.h"
#include "tests/base/core_search.h"
#include "tests/base/working_process.h"
#include "tests/session/certificate_authority.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using namespace testing_support;

class CertificateDirectory : public testing::Test {
 protected:
  CertificateDirectory() {
    std::string pattern = testing::TempDir() + "vmhop-tls-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    write("ca-cert.pem", authority_.pem());
    put("client", authority_.issue(a_source()));
    put("server", authority_.issue(a_destination()));
  }
  ~CertificateDirectory() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  void write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    std::ofstream(path(name), std::ios::trunc) << text;
    ASSERT_EQ(::chmod(path(name).c_str(), mode), 0);
  }
  void put(const std::string& role, const Issued& issued) const {
    write(role + "-cert.pem", issued.pem(), 0644);
    write(role + "-key.pem", issued.key_pem());
  }
  auto load(SessionRole role = SessionRole::kSource) const {
    return load_certificates(directory_, role, {});
  }
  void expect_refusal(const std::string& text, SessionRole role = SessionRole::kSource) const {
    auto loaded = load(role);
    ASSERT_FALSE(loaded.ok()) << "taken, instead of: " << text;
    EXPECT_EQ(loaded.error().kind(), ErrorKind::kRefused);
    EXPECT_THAT(loaded.error().message(), HasSubstr(text));
  }

  Authority authority_;
  std::string directory_;
};

TEST_F(CertificateDirectory, IsReadForEitherRole) {
  auto source = load();
  ASSERT_TRUE(source.ok()) << source.error().message();
  EXPECT_TRUE(Certificates::parse(*source).ok());
  auto destination = load(SessionRole::kDestination);
  ASSERT_TRUE(destination.ok()) << destination.error().message();
  EXPECT_EQ((*destination)->certificate_path(), path("server-cert.pem"));
  EXPECT_NE((*destination)->key.view(), (*source)->key.view());
}

TEST_F(CertificateDirectory, NeedNotHaveWhatIsTheOtherRoles) {
  std::filesystem::remove(path("server-key.pem"));
  EXPECT_TRUE(load().ok());
  expect_refusal("there is no " + path("server-key.pem"), SessionRole::kDestination);
}

TEST_F(CertificateDirectory, IsRefusedWithoutAnyOfItsFiles) {
  for (const char* name : {"client-key.pem", "client-cert.pem", "ca-cert.pem"}) {
    std::filesystem::remove(path(name));
    expect_refusal("there is no " + path(name));
  }
  std::filesystem::remove_all(directory_);
  expect_refusal("is no directory of certificates");
}

TEST_F(CertificateDirectory, IsRefusedWithAKeyThatOthersMayRead) {
  Issued issued = authority_.issue(a_source());
  write("client-cert.pem", issued.pem());
  write("client-key.pem", issued.key_pem(), 0644);
  expect_refusal("is open to others (mode 0644). Close it with 'chmod 600 " +
                 path("client-key.pem") + "'");
  write("client-key.pem", issued.key_pem(), 0660);
  expect_refusal("is open to others");
  // As libvirt sets it up for QEMU's group.
  write("client-key.pem", issued.key_pem(), 0640);
  EXPECT_TRUE(load().ok());
}

TEST_F(CertificateDirectory, IsRefusedWithFilesThatDoNotFitTogether) {
  write("client-key.pem", authority_.issue(a_source()).key_pem());
  expect_refusal(path("client-key.pem") + " is not the key of " + path("client-cert.pem"));
}

TEST_F(CertificateDirectory, IsRefusedWithAKeyThatNeedsAPassphrase) {
  Issued issued = authority_.issue(a_source());
  write("client-cert.pem", issued.pem());
  write("client-key.pem", issued.key_pem("secret"));
  expect_refusal("is protected by a passphrase");
}

TEST_F(CertificateDirectory, IsRefusedWithWhatIsNoPem) {
  Issued issued = authority_.issue(a_source());
  write("client-cert.pem", issued.pem());
  write("client-key.pem", "no key");
  expect_refusal(path("client-key.pem") + " has no private key");
  write("client-cert.pem", issued.key_pem());
  expect_refusal(path("client-cert.pem") + " has no certificate in PEM");
  write("client-cert.pem", issued.pem().substr(0, 200));
  expect_refusal(path("client-cert.pem") + " has no certificate in PEM");
  write("ca-cert.pem", "");
  expect_refusal(path("ca-cert.pem") + " has no certificate in PEM");
  write("ca-cert.pem", std::string(300 << 10, 'x'));
  expect_refusal("up to 262144 are read");
}

TEST_F(CertificateDirectory, IsRefusedWhenNotItsCaHasSignedTheCertificate) {
  write("ca-cert.pem", Authority(Authority::root("another")).pem());
  expect_refusal(path("client-cert.pem") + " is not signed by the CA in " + path("ca-cert.pem"));
  // Whoever has the key of a host must not be able to make hosts.
  write("ca-cert.pem", authority_.issue(a_source()).pem());
  expect_refusal("has a certificate of no certificate authority (CN=host-a)");
}

TEST_F(CertificateDirectory, IsRefusedWithWhatTheOtherSideWouldRefuse) {
  Wish wish = a_source();
  wish.until = -1;
  put("client", authority_.issue(wish));
  expect_refusal(path("client-cert.pem") + " expired on");
  put("client", authority_.issue(a_destination()));
  expect_refusal(path("client-cert.pem") + " is not for a source");
  wish = a_source();
  wish.purpose = "clientAuth,serverAuth";
  put("client", authority_.issue(wish));
  expect_refusal("Have one made for each role");
  wish = a_source();
  wish.make_key = [] { return EVP_RSA_gen(1024); };
  put("client", authority_.issue(wish));
  expect_refusal("RSA needs 2048 bits");
}

TEST_F(CertificateDirectory, IsRefusedWhenItsOwnListRevokesIt) {
  Issued issued = authority_.issue(a_source());
  put("client", issued);
  write("ca-crl.pem", authority_.revoke({}));
  EXPECT_TRUE(load().ok());
  write("ca-crl.pem", authority_.revoke({&issued}));
  expect_refusal("was revoked by its CA, says " + path("ca-crl.pem"));
  write("ca-crl.pem", "nothing");
  expect_refusal("Without lists, remove the file");
}

TEST_F(CertificateDirectory, TakesNamesOfHostsOnly) {
  for (const char* name : {"", "two words", "line\nbreak"}) {
    auto loaded = load_certificates(directory_, SessionRole::kSource, {name});
    ASSERT_FALSE(loaded.ok());
    EXPECT_THAT(loaded.error().message(), HasSubstr("is no name of a host"));
  }
}

// On its way -----------------------------------------------------------------------------------

TEST_F(CertificateDirectory, IsPassedOnWholeAndOnlyOnce) {
  // More than a pipe holds by itself.
  std::string authorities = authority_.pem();
  while (authorities.size() < 100'000)
    authorities += authority_.pem();
  write("ca-cert.pem", authorities);
  write("ca-crl.pem", authority_.revoke({}));
  auto loaded = load_certificates(directory_, SessionRole::kDestination, {"host-a", "host-c"});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  UniqueFd passed = pass_credentials(*loaded).value();
  UniqueFd again = passed.duplicate().value();
  Credentials taken = take_credentials(std::move(passed)).value();
  EXPECT_EQ(taken.key(), nullptr);
  const CertificateFiles& files = *taken.certificates();
  EXPECT_EQ(files.role, SessionRole::kDestination);
  EXPECT_EQ(files.directory, directory_);
  EXPECT_EQ(files.authorities, authorities);
  EXPECT_EQ(files.certificate, (*loaded)->certificate);
  EXPECT_EQ(files.revocations, (*loaded)->revocations);
  EXPECT_EQ(files.key.view(), (*loaded)->key.view());
  EXPECT_THAT(files.peer_names, testing::ElementsAre("host-a", "host-c"));
  EXPECT_FALSE(take_credentials(std::move(again)).ok());
}

TEST_F(CertificateDirectory, LeavesNothingOfItsKeyInACoreOfWhoReadsAndPassesIt) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's memory is too large to look through";
  // Made elsewhere, so that this process, whose copy is looked at, never has had it.
  WorkingProcess maker([this] { put("client", authority_.issue(a_source())); });
  static std::optional<Credentials> kept;
  WorkingProcess user([this] {
    kept = Credentials(load().value());
    kept = take_credentials(pass_credentials(*kept).value()).value();
  });
  std::string pem = read_file(path("client-key.pem"), 1 << 16).value();
  std::string line = pem.substr(pem.find('\n') + 1, 60);
  Openssl<BIO> reader(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  Openssl<EVP_PKEY> key(PEM_read_bio_PrivateKey(reader.get(), nullptr, nullptr, nullptr));
  BIGNUM* number = nullptr;
  ASSERT_EQ(EVP_PKEY_get_bn_param(key.get(), "priv", &number), 1);
  std::string big_endian(32, '\0');
  BN_bn2binpad(number, reinterpret_cast<unsigned char*>(big_endian.data()), 32);
  BN_clear_free(number);
  std::string little_endian(big_endian.rbegin(), big_endian.rend());
  EXPECT_EQ(find_in_core(user.pid(), line), "");
  EXPECT_EQ(find_in_core(user.pid(), big_endian), "");
  EXPECT_EQ(find_in_core(user.pid(), little_endian), "");
}

}  // namespace
}  // namespace vmhop
