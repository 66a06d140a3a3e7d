#include "backend/session/key.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "backend/base/fd.h"
#include "backend/session/secret_memory.h"

namespace vmhop {
namespace {

constexpr std::string_view kFileHeader = "vmhop-key-1 ";
constexpr size_t kHexSize = 2 * Secret::kSize;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Error not_a_key_file(const std::string& path) {
  return refusedf(
      "{} is not a vmhop key file (one line, \"vmhop-key-1\" and 64 hexadecimal digits). Make one "
      "with 'vmhop keygen', or copy the key file of the other host",
      path);
}

// Everything but the content.
Status check_key_file(const std::string& path, int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error::from_errno("reading the mode of " + path, errno);
  if (!S_ISREG(info.st_mode)) return not_a_key_file(path);
  if (info.st_uid != ::geteuid() && info.st_uid != 0) {
    return refusedf("the key file {} belongs to another user (uid {}): who owns it can change it",
                    path, info.st_uid);
  }
  if ((info.st_mode & 077) != 0) {
    return refusedf("the key file {} is open to others (mode {:04o}). Close it with 'chmod 600 {}'",
                    path, info.st_mode & 07777, path);
  }
  return ok_status();
}

Status make_parent_directory(const std::string& path) {
  std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (parent.empty() || ::access(parent.c_str(), F_OK) == 0) return ok_status();
  std::error_code error;
  std::filesystem::create_directories(parent.parent_path(), error);
  if (!error && ::mkdir(parent.c_str(), 0700) != 0 && errno != EEXIST) {
    error = std::error_code(errno, std::generic_category());
  }
  if (error) return errorf("making the directory {}: {}", parent.string(), error.message());
  return ok_status();
}

}  // namespace

void Secret::Cleanser::operator()(std::byte* bytes) const {
  free_secret(bytes, kSize);
}

Secret::Secret() : bytes_(static_cast<std::byte*>(allocate_secret(kSize))) {}

Result<Secret> Secret::random() {
  Secret secret;
  if (RAND_priv_bytes(reinterpret_cast<unsigned char*>(secret.bytes_.get()), kSize) != 1) {
    return Error("the random generator of OpenSSL failed");
  }
  return secret;
}

Secret Secret::from_bytes(Bytes bytes) {
  Secret secret;
  std::memcpy(secret.bytes_.get(), bytes.data(), kSize);
  return secret;
}

Result<Secret> Secret::from_hex(std::string_view hex) {
  if (hex.size() != kHexSize) return refusedf("a key has {} digits, not {}", kHexSize, hex.size());
  Secret secret;
  for (size_t i = 0; i < kSize; ++i) {
    int high = hex_digit(hex[2 * i]);
    int low = hex_digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return refusedf("a key consists of hexadecimal digits only");
    secret.bytes_[i] = static_cast<std::byte>(high * 16 + low);
  }
  return secret;
}

std::string Secret::to_hex() const {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(kHexSize);
  for (std::byte byte : bytes()) {
    hex.push_back(kDigits[std::to_integer<size_t>(byte >> 4)]);
    hex.push_back(kDigits[std::to_integer<size_t>(byte & std::byte{15})]);
  }
  return hex;
}

bool Secret::operator==(const Secret& other) const {
  return CRYPTO_memcmp(bytes_.get(), other.bytes_.get(), kSize) == 0;
}

void cleanse(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

Result<Secret> hmac(const Secret& secret, std::span<const std::span<const std::byte>> parts) {
  std::vector<unsigned char> message;
  size_t total = 0;
  for (std::span<const std::byte> part : parts)
    total += part.size();
  message.reserve(total);  // growing would leave copies behind
  for (std::span<const std::byte> part : parts) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(part.data());
    message.insert(message.end(), bytes, bytes + part.size());
  }
  std::array<std::byte, Secret::kSize> digest{};
  unsigned int size = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), secret.bytes().data(), Secret::kSize, message.data(), message.size(),
           reinterpret_cast<unsigned char*>(digest.data()), &size);
  OPENSSL_cleanse(message.data(), message.size());
  if (made == nullptr || size != digest.size()) {
    return Error("OpenSSL has no SHA-256 here; look at its configuration file");
  }
  Secret result = Secret::from_bytes(digest);
  OPENSSL_cleanse(digest.data(), digest.size());
  return result;
}

Result<Secret> derive(const Secret& secret, std::string_view label) {
  // RFC 5869 with an empty salt and one block of output: extract, then expand.
  static constexpr std::array<std::byte, Secret::kSize> kNoSalt{};
  static constexpr std::byte kFirstBlock{1};
  std::span<const std::byte> input = secret.bytes();
  VMHOP_ASSIGN(Secret pseudo_random, hmac(Secret::from_bytes(kNoSalt), std::span(&input, 1)));
  std::array<std::span<const std::byte>, 2> info{std::as_bytes(std::span(label)),
                                                 std::span(&kFirstBlock, 1)};
  return hmac(pseudo_random, info);
}

Status fill_random(std::span<std::byte> bytes) {
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size())) !=
      1) {
    return Error("the random generator of OpenSSL failed");
  }
  return ok_status();
}

std::string default_key_path() {
  if (::geteuid() == 0) return "/etc/vmhop/key";
  const char* config = std::getenv("XDG_CONFIG_HOME");
  if (config != nullptr && config[0] == '/') return std::string(config) + "/vmhop/key";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : "") + "/.config/vmhop/key";
}

Result<Secret> load_key(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && (errno == ENOENT || errno == ENOTDIR)) {
    return refusedf(
        "there is no key file {}. Make one with 'vmhop keygen' on one host and copy it to the "
        "other",
        path);
  }
  if (!fd.valid())
    return refusedf("{}", Error::from_errno("opening the key file " + path, errno).message());
  VMHOP_TRY(check_key_file(path, fd.get()));

  // One byte more than the longest that is right, to see what is too long.
  std::string content(kFileHeader.size() + kHexSize + 2, '\0');
  ssize_t got = ::read(fd.get(), content.data(), content.size());
  if (got < 0) return Error::from_errno("reading the key file " + path, errno);
  std::string_view line(content.data(), static_cast<size_t>(got));
  if (line.ends_with('\n')) line.remove_suffix(1);
  Result<Secret> key = not_a_key_file(path);
  if (line.starts_with(kFileHeader)) {
    if (auto parsed = Secret::from_hex(line.substr(kFileHeader.size())); parsed) {
      key = std::move(parsed);
    }
  }
  cleanse(content);
  return key;
}

Status write_new_key(const std::string& path) {
  VMHOP_ASSIGN(Secret key, Secret::random());
  return write_key(path, key);
}

Status write_key(const std::string& path, const Secret& key) {
  VMHOP_TRY(make_parent_directory(path));
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid() && errno == EEXIST) {
    return refusedf(
        "{} exists and is never overwritten. Use it, give another file name, or remove it first if "
        "no host needs it any more",
        path);
  }
  if (!fd.valid()) return Error::from_errno("creating the key file " + path, errno);

  std::string hex = key.to_hex();
  // Not by fmt, whose buffer nobody cleanses.
  std::string line;
  line.reserve(kFileHeader.size() + kHexSize + 1);
  line.append(kFileHeader).append(hex).push_back('\n');
  Status written = write_all(fd.get(), std::as_bytes(std::span(line)));
  if (written && ::fsync(fd.get()) != 0) written = Error::from_errno("syncing", errno);
  cleanse(hex);
  cleanse(line);
  if (!written) {
    ::unlink(path.c_str());
    return written.error().with("writing the key file " + path);
  }
  return ok_status();
}

}  // namespace vmhop
