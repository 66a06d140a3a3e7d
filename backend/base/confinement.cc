#include "backend/base/confinement.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "backend/base/fd.h"
#include "backend/base/system_call_filter.h"

// Linux 6.2; Debian 12's headers are older.
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

namespace vmhop {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr rlim_t kNiceLimit = 20 + 10;  // of nice -10, as thread_role.cc sets it

constexpr uint64_t kMakingFiles = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                  LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK;
constexpr uint64_t kNeverAllowed = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                   LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
                                   LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                                   LANDLOCK_ACCESS_FS_MAKE_SYM;

bool wanted() {
  return !kSanitized && std::getenv("VMHOP_UNCONFINED") == nullptr;
}

void notice(const Status& done) {
  if (!done) spdlog::info("less confined than it might be: {}", done.error().message());
}

Status set_process(int option, unsigned long value, const char* what) {
  if (::prctl(option, value, 0, 0, 0) != 0) return Error::from_errno(what, errno);
  return ok_status();
}

bool raise_limit(__rlimit_resource resource, rlim_t wanted) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return false;
  if (limit.rlim_cur >= wanted) return true;
  limit = {wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
  return ::setrlimit(resource, &limit) == 0;
}

Status allow(int ruleset, const std::string& path, uint64_t access) {
  UniqueFd parent(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!parent.valid()) return Error::from_errno("opening " + path, errno);
  landlock_path_beneath_attr rule{};
  rule.allowed_access = access;
  rule.parent_fd = parent.get();
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return Error::from_errno("a Landlock rule for " + path, errno);
  }
  return ok_status();
}

}  // namespace

void confine_process() {
  if (!wanted()) return;
  notice(set_process(PR_SET_DUMPABLE, 0, "PR_SET_DUMPABLE"));
  notice(drop_capabilities());
  Status alone = set_process(PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS");
  notice(alone);
  if (alone) notice(filter_system_calls());
}

void confine_files(const std::string& directory) {
  if (wanted()) notice(restrict_writing(directory));
}

Status drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return Error::from_errno("capget", errno);
  uint32_t kept = 0;
  auto replace = [&](unsigned capability, __rlimit_resource resource, rlim_t limit) {
    uint32_t bit = 1U << capability;
    bool has = (sets[0].effective & bit) != 0;
    if (has && !raise_limit(resource, limit)) kept |= bit;
  };
  replace(CAP_SYS_NICE, RLIMIT_NICE, kNiceLimit);
  replace(CAP_IPC_LOCK, RLIMIT_MEMLOCK, RLIM_INFINITY);
  sets[0] = {kept, kept, 0};
  sets[1] = {};
  // Ambient ones go with the permitted ones.
  if (::syscall(SYS_capset, &header, sets.data()) != 0) return Error::from_errno("capset", errno);
  return ok_status();
}

Status restrict_writing(const std::string& directory) {
  long version =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 0) return Error::from_errno("Landlock", errno);
  uint64_t in_directory = kMakingFiles | (version >= 3 ? LANDLOCK_ACCESS_FS_TRUNCATE : 0);
  landlock_ruleset_attr handled{};
  handled.handled_access_fs = in_directory | kNeverAllowed;
  UniqueFd ruleset(static_cast<int>(
      ::syscall(SYS_landlock_create_ruleset, &handled, sizeof handled.handled_access_fs, 0)));
  if (!ruleset.valid()) return Error::from_errno("a Landlock ruleset", errno);
  VMHOP_TRY(allow(ruleset.get(), directory, in_directory));
  VMHOP_TRY(allow(ruleset.get(), "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE));
  constexpr const char* kRdmaDevices = "/dev/infiniband";
  if (::access(kRdmaDevices, F_OK) == 0) {
    VMHOP_TRY(allow(ruleset.get(), kRdmaDevices, LANDLOCK_ACCESS_FS_WRITE_FILE));
  }
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return Error::from_errno("landlock_restrict_self", errno);
  }
  return ok_status();
}

}  // namespace vmhop
