#include "cli/runtime_dir.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "backend/commit_record.h"
#include "cli/vm_record.h"

namespace vmhop {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxName = 64;
constexpr size_t kMaxSocketPath = 107;
// The longest file name that a socket in a VM's directory has.
constexpr std::string_view kLongestSocket = "/incoming.sock";

Status make_private_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::from_errno("making the directory " + path, errno);
  }
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return Error::from_errno("looking at " + path, errno);
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 022) != 0) {
    return refusedf(
        "{} is not a directory that belongs to this user and that nobody else may write to. "
        "Remove it, or name another one in VMHOP_RUNTIME_DIR",
        path);
  }
  return ok_status();
}

bool answers(const std::string& socket_path) {
  return connect_unix(socket_path, SOCK_SEQPACKET).ok();
}

// Opens and locks <directory>/lock; nothing when another process holds it.
Result<UniqueFd> lock_directory(const std::string& directory) {
  std::string path = directory + "/lock";
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return Error::from_errno("opening " + path, errno);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Error("locked", ErrorKind::kRefused);
    return Error::from_errno("locking " + path, errno);
  }
  struct stat held {};
  struct stat named {};
  if (::fstat(file.get(), &held) != 0 || ::stat(path.c_str(), &named) != 0 ||
      held.st_ino != named.st_ino) {
    return Error("its owner is just leaving; try again", ErrorKind::kRefused);
  }
  return file;
}

Error taken(const std::string& name, const Liveness& life) {
  if (life.supervisor) {
    return refusedf("the name {0} is taken: a VM of that name runs. See `vmhop status {0}`", name);
  }
  if (life.exporter) {
    return refusedf(
        "the name {0} is taken: the memory of a VM that left is still held here until it is "
        "drained. See `vmhop status {0}`; `vmhop drop {0}` gives the memory up",
        name);
  }
  return refusedf(
      "the name {0} is taken: {1} of a VM whose supervisor is gone still runs. See `vmhop status "
      "{0}`; `vmhop drop {0}` ends it",
      name, life.qemu ? "QEMU" : "the pager");
}

void remove_contents(const std::string& directory, const std::vector<std::string>& kept) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    bool keep = entry.path().filename() == "lock" ||
                std::find(kept.begin(), kept.end(), entry.path().string()) != kept.end();
    if (!keep) fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace

Result<std::string> runtime_base() {
  if (const char* chosen = std::getenv("VMHOP_RUNTIME_DIR"); chosen != nullptr && *chosen != '\0') {
    if (*chosen != '/') return refusedf("VMHOP_RUNTIME_DIR is '{}'; use an absolute path", chosen);
    return std::string(chosen);
  }
  if (::geteuid() == 0) return std::string("/run/vmhop");
  const char* session = std::getenv("XDG_RUNTIME_DIR");
  if (session != nullptr && *session == '/') return std::string(session) + "/vmhop";
  return refusedf(
      "there is no XDG_RUNTIME_DIR to keep the VM's sockets in; set VMHOP_RUNTIME_DIR to a "
      "directory of your own");
}

Status check_vm_name(const std::string& base, const std::string& name) {
  auto letter = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  bool fine = !name.empty() && name.size() <= kMaxName && letter(name[0]) &&
              std::all_of(name.begin(), name.end(),
                          [&](char c) { return letter(c) || c == '.' || c == '_' || c == '-'; });
  if (!fine) {
    return refusedf(
        "'{}' is no name for a VM: use 1 to {} letters, digits, '.', '_' and '-', a letter or "
        "digit first",
        name, kMaxName);
  }
  size_t longest = base.size() + 1 + name.size() + kLongestSocket.size();
  if (longest > kMaxSocketPath) {
    return refusedf(
        "sockets in {}/{} would have paths of {} bytes, {} are possible: use a shorter name, or a "
        "shorter directory in VMHOP_RUNTIME_DIR",
        base, name, longest, kMaxSocketPath);
  }
  return ok_status();
}

std::vector<std::string> list_vm_names(const std::string& base) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(base, ignored)) {
    std::string name = entry.path().filename().string();
    if (entry.is_directory(ignored) && check_vm_name(base, name).ok()) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Liveness look_for_life(const VmPaths& paths) {
  Liveness life;
  life.supervisor = answers(paths.control_socket());
  life.exporter = answers(paths.exporter_socket());
  life.pager = answers(paths.pager_socket());
  if (auto record = read_vm_record(paths.directory())) {
    life.qemu = is_alive(record->qemu);
    life.exporter = life.exporter || is_alive(record->exporter);
    life.pager = life.pager || is_alive(record->pager);
  }
  // One that cannot be read counts: rather a name that is taken than a VM that is lost.
  auto commit = read_commit_record(paths.directory());
  life.commit_recorded = !commit || (*commit && (*commit)->outcome == CommitOutcome::kPending);
  return life;
}

Result<NameClaim> NameClaim::take(const std::string& base, const std::string& name, Keep keep) {
  VMHOP_TRY(check_vm_name(base, name));
  VMHOP_TRY(make_private_directory(base));
  VmPaths paths(base, name);
  std::error_code ignored;
  bool existed = fs::exists(paths.directory(), ignored);
  VMHOP_TRY(make_private_directory(paths.directory()));
  auto lock = lock_directory(paths.directory());
  if (!lock) {
    if (lock.error().kind() != ErrorKind::kRefused) return lock.error();
    Liveness holder;
    holder.supervisor = true;
    return taken(name, holder);
  }
  Liveness life = look_for_life(paths);
  if (life.any()) return taken(name, life);
  if (existed && fs::exists(paths.directory() + "/vm.json", ignored)) {
    spdlog::warn("{}: cleaning up after an earlier VM of this name whose processes are all gone{}",
                 name,
                 life.commit_recorded ? " (it had been committed to another host: make sure that "
                                        "it is not running there)"
                                      : "");
  }
  std::vector<std::string> kept;
  if (keep == Keep::kMonitors) kept = {paths.lifecycle_qmp(), paths.relocation_qmp()};
  remove_contents(paths.directory(), kept);
  return NameClaim(std::move(paths), std::move(*lock));
}

Result<NameClaim> NameClaim::inherit(const std::string& base, const std::string& name) {
  VMHOP_TRY(check_vm_name(base, name));
  VmPaths paths(base, name);
  std::error_code ignored;
  if (!fs::exists(paths.directory() + "/vm.json", ignored)) {
    return refusedf("there is no VM named {} on this host", name);
  }
  auto lock = lock_directory(paths.directory());
  if (!lock) {
    if (lock.error().kind() != ErrorKind::kRefused) return lock.error();
    return refusedf("nothing to recover: the supervisor of {0} is alive. See `vmhop status {0}`",
                    name);
  }
  return NameClaim(std::move(paths), std::move(*lock));
}

void NameClaim::remove() {
  remove_vm_directory(paths_);
  lock_.reset();
}

void remove_vm_directory(const VmPaths& paths) {
  std::error_code ignored;
  fs::remove_all(paths.directory(), ignored);
}

}  // namespace vmhop
