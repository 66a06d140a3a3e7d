#include "backend/session/certificate_directory.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include "backend/base/fd.h"

namespace vmhop {
namespace {

// All of it has to fit through a pipe (key_passing.h).
constexpr size_t kMaxAuthorities = 256 * 1024;
constexpr size_t kMaxCertificate = 64 * 1024;
constexpr size_t kMaxRevocations = 512 * 1024;
constexpr size_t kMaxKey = 16 * 1024;
constexpr size_t kMaxPeerNames = 64;
constexpr size_t kMaxPeerName = 255;
constexpr int kCheckTimeoutMs = 20'000;

Error missing(const std::string& path) {
  return refusedf(
      "there is no {}. A directory of certificates has ca-cert.pem, and client-cert.pem and "
      "client-key.pem for a source, server-cert.pem and server-key.pem for a destination "
      "(docs/certificates.md)",
      path);
}

struct OpenFile {
  UniqueFd fd;
  size_t size = 0;
  struct stat info {};
};

Result<OpenFile> open_file(const std::string& path, size_t limit) {
  OpenFile file;
  file.fd = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.fd.valid() && (errno == ENOENT || errno == ENOTDIR)) return missing(path);
  if (!file.fd.valid())
    return refusedf("{}", Error::from_errno("opening " + path, errno).message());
  if (::fstat(file.fd.get(), &file.info) != 0) return Error::from_errno("fstat " + path, errno);
  if (!S_ISREG(file.info.st_mode)) return refusedf("{} is not a file", path);
  file.size = static_cast<size_t>(file.info.st_size);
  if (file.size > limit) {
    return refusedf("{} has {} bytes; up to {} are read", path, file.size, limit);
  }
  return file;
}

Status fill(const OpenFile& file, const std::string& path, std::span<std::byte> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    ssize_t got = ::read(file.fd.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno("reading " + path, errno);
    if (got == 0) return refusedf("{} was changed while it was read; try again", path);
    done += static_cast<size_t>(got);
  }
  return ok_status();
}

Result<std::string> read_public(const std::string& path, size_t limit) {
  VMHOP_ASSIGN(OpenFile file, open_file(path, limit));
  std::string text(file.size, '\0');
  VMHOP_TRY(fill(file, path, std::as_writable_bytes(std::span(text))));
  return text;
}

// A group may read it, as QEMU's does where libvirt is set up; nobody else.
Result<SecretText> read_secret(const std::string& path) {
  VMHOP_ASSIGN(OpenFile file, open_file(path, kMaxKey));
  if (file.info.st_uid != ::geteuid() && file.info.st_uid != 0) {
    return refusedf("the key {} belongs to another user (uid {}): who owns it can change it", path,
                    file.info.st_uid);
  }
  if ((file.info.st_mode & 037) != 0) {
    return refusedf("the key {} is open to others (mode {:04o}). Close it with 'chmod 600 {}'",
                    path, file.info.st_mode & 07777, path);
  }
  SecretText text(file.size);
  VMHOP_TRY(fill(file, path, text.bytes()));
  return text;
}

Status check_peer_names(const std::vector<std::string>& names) {
  if (names.size() > kMaxPeerNames) return refusedf("more than {} names", kMaxPeerNames);
  for (const std::string& name : names) {
    bool printable =
        std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 127; });
    if (name.empty() || name.size() > kMaxPeerName || !printable) {
      return refusedf("'{}' is no name of a host", name);
    }
  }
  return ok_status();
}

// The check, and its answer -------------------------------------------------------------------

constexpr char kGood = 'g';
constexpr char kExpiresSoon = 's';
constexpr char kBad = 'b';

std::string check(const std::shared_ptr<const CertificateFiles>& files) {
  auto certificates = Certificates::parse(files);
  if (!certificates) return kBad + certificates.error().message();
  if (Status checked = certificates->check(); !checked) return kBad + checked.error().message();
  if (auto end = certificates->expires_soon()) return kExpiresSoon + *end;
  return {kGood};
}

[[noreturn]] void check_and_exit(const std::shared_ptr<const CertificateFiles>& files, int answer) {
  ::prctl(PR_SET_DUMPABLE, 0);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  std::string text = check(files);
  bool told = write_all(answer, std::as_bytes(std::span(text))).ok();
  ::_exit(told ? 0 : 1);
}

Result<std::string> read_answer(int answer) {
  std::string text;
  std::array<char, 4096> part{};
  for (;;) {
    VMHOP_ASSIGN(short ready, wait_fd(answer, POLLIN, kCheckTimeoutMs));
    ssize_t got = ready != 0 ? ::read(answer, part.data(), part.size()) : 0;
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(part.data(), static_cast<size_t>(got));
  }
}

Status check_apart(const std::shared_ptr<const CertificateFiles>& files) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("pipe", errno);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return Error::from_errno("starting a process to check certificates", errno);
  if (child == 0) check_and_exit(files, write_end.get());
  write_end.reset();
  auto answer = read_answer(read_end.get());
  ::kill(child, SIGKILL);  // it has answered, or hangs
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  VMHOP_TRY(answer);
  if (answer->empty()) return errorf("the check of {} died", files->directory);
  std::string text = answer->substr(1);
  if (answer->front() == kBad) return refusedf("{}", text);
  if (answer->front() == kExpiresSoon) {
    spdlog::warn(
        "{} expires on {}: a relocation that loses its connection after that cannot go on without "
        "a new one",
        files->certificate_path(), text);
  }
  return ok_status();
}

}  // namespace

Result<std::shared_ptr<const CertificateFiles>> load_certificates(
    const std::string& directory, SessionRole role, std::vector<std::string> peer_names) {
  VMHOP_TRY(check_peer_names(peer_names));
  auto files = std::make_shared<CertificateFiles>();
  files->role = role;
  files->directory = directory;
  files->peer_names = std::move(peer_names);
  if (!std::filesystem::is_directory(directory)) {
    return refusedf(
        "{} is no directory of certificates (--tls-creds). docs/certificates.md says how to make "
        "one",
        directory);
  }
  VMHOP_ASSIGN(files->authorities, read_public(files->path("ca-cert.pem"), kMaxAuthorities));
  VMHOP_ASSIGN(files->certificate, read_public(files->certificate_path(), kMaxCertificate));
  if (std::string lists = files->path("ca-crl.pem"); ::access(lists.c_str(), F_OK) == 0) {
    VMHOP_ASSIGN(files->revocations, read_public(lists, kMaxRevocations));
    if (files->revocations.empty()) return refusedf("{} is empty: remove it", lists);
  }
  VMHOP_ASSIGN(files->key, read_secret(files->key_path()));
  VMHOP_TRY(check_apart(files));
  return std::shared_ptr<const CertificateFiles>(std::move(files));
}

}  // namespace vmhop
