#include "backend/session/key_passing.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <numeric>
#include <vector>

namespace vmhop {
namespace {

// More than certificate_directory.h reads, and what the kernel allows a pipe unless it is told
// else.
constexpr uint64_t kMaxPassed = 1024 * 1024;

enum class Kind : uint32_t { kKey = 1, kCertificates = 2 };

// What is in the pipe: this, the texts in the order of their sizes, the key.
struct Passed {
  Kind kind = Kind::kKey;
  uint32_t role = 0;
  std::array<uint32_t, 5> texts{};  // directory, CA, certificate, lists, peer names
  uint32_t key = 0;
};

std::string join(const std::vector<std::string>& names) {
  std::string lines;
  for (const std::string& name : names)
    lines += name + "\n";
  return lines;
}

std::vector<std::string> split(const std::string& lines) {
  std::vector<std::string> names;
  for (size_t begin = 0; begin < lines.size();) {
    size_t end = std::min(lines.find('\n', begin), lines.size());
    names.push_back(lines.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

// A pipe that takes `size` bytes without a reader.
Result<Pipe> make_pipe(size_t size) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    return Error::from_errno("a pipe for a key", errno);
  }
  Pipe made{UniqueFd(ends[0]), UniqueFd(ends[1])};
  int capacity = ::fcntl(made.write_end.get(), F_GETPIPE_SZ);
  if (capacity >= 0 && static_cast<size_t>(capacity) < size) {
    capacity = ::fcntl(made.write_end.get(), F_SETPIPE_SZ, static_cast<int>(size));
  }
  if (capacity < 0) {
    return Error::from_errno(fmt::format("a pipe of {} bytes for certificates "
                                         "(/proc/sys/fs/pipe-max-size)",
                                         size),
                             errno);
  }
  return made;
}

Status read_whole(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    VMHOP_ASSIGN(short ready, wait_fd(fd, POLLIN, 0));
    ssize_t got = (ready & POLLIN) != 0 ? ::read(fd, bytes.data(), bytes.size()) : 0;
    if (got < 0) return Error::from_errno("reading a key", errno);
    if (got == 0) return refusedf("no key came with the message");
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
  return ok_status();
}

Result<Credentials> take_key(int fd) {
  std::array<std::byte, Secret::kSize> bytes{};
  VMHOP_TRY(read_whole(fd, bytes));
  Secret key = Secret::from_bytes(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return Credentials(std::move(key));
}

Result<Credentials> take_certificates(int fd, const Passed& passed) {
  auto files = std::make_shared<CertificateFiles>();
  if (passed.role != static_cast<uint32_t>(SessionRole::kSource) &&
      passed.role != static_cast<uint32_t>(SessionRole::kDestination)) {
    return refusedf("certificates came for the unknown role {}", passed.role);
  }
  files->role = static_cast<SessionRole>(passed.role);
  std::string names;
  std::array<std::string*, 5> texts{&files->directory, &files->authorities, &files->certificate,
                                    &files->revocations, &names};
  for (size_t i = 0; i < texts.size(); ++i) {
    texts[i]->resize(passed.texts[i]);
    VMHOP_TRY(read_whole(fd, std::as_writable_bytes(std::span(*texts[i]))));
  }
  files->peer_names = split(names);
  files->key = SecretText(passed.key);
  VMHOP_TRY(read_whole(fd, files->key.bytes()));
  return Credentials(std::shared_ptr<const CertificateFiles>(std::move(files)));
}

Result<UniqueFd> pass_key(const Secret& key) {
  Passed passed{.kind = Kind::kKey, .key = Secret::kSize};
  VMHOP_ASSIGN(Pipe pipe, make_pipe(sizeof passed + Secret::kSize));
  VMHOP_TRY(write_all(pipe.write_end.get(), std::as_bytes(std::span(&passed, 1))));
  VMHOP_TRY(write_all(pipe.write_end.get(), key.bytes()));
  return std::move(pipe.read_end);
}

Result<UniqueFd> pass_certificates(const CertificateFiles& files) {
  std::string names = join(files.peer_names);
  std::array<const std::string*, 5> texts{&files.directory, &files.authorities, &files.certificate,
                                          &files.revocations, &names};
  Passed passed{.kind = Kind::kCertificates,
                .role = static_cast<uint32_t>(files.role),
                .key = static_cast<uint32_t>(files.key.size())};
  std::transform(texts.begin(), texts.end(), passed.texts.begin(),
                 [](const std::string* text) { return static_cast<uint32_t>(text->size()); });
  size_t total = sizeof passed + passed.key +
                 std::accumulate(passed.texts.begin(), passed.texts.end(), size_t{0});
  VMHOP_ASSIGN(Pipe pipe, make_pipe(total));
  VMHOP_TRY(write_all(pipe.write_end.get(), std::as_bytes(std::span(&passed, 1))));
  for (const std::string* text : texts)
    VMHOP_TRY(write_all(pipe.write_end.get(), std::as_bytes(std::span(*text))));
  VMHOP_TRY(write_all(pipe.write_end.get(), files.key.bytes()));
  return std::move(pipe.read_end);
}

}  // namespace

Result<UniqueFd> pass_credentials(const Credentials& credentials) {
  return credentials.key() != nullptr ? pass_key(*credentials.key())
                                      : pass_certificates(*credentials.certificates());
}

Result<Credentials> take_credentials(UniqueFd passed) {
  Passed head;
  VMHOP_TRY(read_whole(passed.get(), std::as_writable_bytes(std::span(&head, 1))));
  uint64_t total = head.key;
  for (uint32_t size : head.texts)
    total += size;
  if (total > kMaxPassed) return refusedf("what came is too long for a key");
  if (head.kind == Kind::kKey && head.key == Secret::kSize) return take_key(passed.get());
  if (head.kind == Kind::kCertificates) return take_certificates(passed.get(), head);
  return refusedf("what came is neither a key nor certificates");
}

}  // namespace vmhop
