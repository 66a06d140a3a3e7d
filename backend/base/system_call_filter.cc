#include "backend/base/system_call_filter.h"

#include <sched.h>
#include <seccomp.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

namespace vmhop {
namespace {

struct Release {
  void operator()(void* filter) const { ::seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, Release>;  // scmp_filter_ctx is a void*

// By name: libseccomp knows which of them an architecture has.
constexpr const char* kDenied[] = {
    // programs and processes
    "execve", "execveat", "fork", "vfork",
    // other processes: QEMU and the supervisor are the same user's
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kcmp", "tkill", "rt_sigqueueinfo",
    "migrate_pages",
    // namespaces and mounts
    "unshare", "setns", "chroot", "pivot_root", "mount", "umount", "umount2", "move_mount",
    "open_tree", "mount_setattr", "fsopen", "fsmount", "fsconfig", "fspick",
    // large parts of the kernel that nothing here needs
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "fanotify_init", "keyctl", "add_key", "request_key", "modify_ldt",
    "open_by_handle_at", "name_to_handle_at", "lookup_dcookie", "personality",
    // the host
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
    "syslog", "acct", "quotactl", "quotactl_fd", "swapon", "swapoff", "iopl", "ioperm",
    "settimeofday", "stime", "clock_settime", "clock_adjtime", "adjtimex", "sethostname",
    "setdomainname", "vhangup",
    // another identity, and files of another
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid",
    "setfsgid", "capset", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown",
    "fchownat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat", "setxattr",
    "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"};

// A name that this libseccomp is too old to know, or that this architecture never had, is none
// that can be called by it.
int deny(const Filter& filter, const char* name) {
  int number = ::seccomp_syscall_resolve_name(name);
  if (number == __NR_SCMP_ERROR) return 0;
  return ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ERRNO(EPERM), number, 0, nullptr);
}

int deny_if(const Filter& filter, int number, scmp_arg_cmp argument) {
  return ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ERRNO(EPERM), number, 1, &argument);
}

// A negative errno value, as libseccomp's own.
int add_rules(const Filter& filter) {
  for (const char* name : kDenied) {
    if (int failed = deny(filter, name); failed != 0) return failed;
  }
  // Threads only. A filter cannot look at what clone3 points at: without it glibc uses clone.
  int failed = deny_if(filter, SCMP_SYS(clone), {0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0});
  if (failed == 0) {
    failed = ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0,
                                      nullptr);
  }
  // Itself only, as abort() does.
  auto self = static_cast<scmp_datum_t>(::getpid());
  for (int number : {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_tgsigqueueinfo)}) {
    if (failed == 0) failed = deny_if(filter, number, {0, SCMP_CMP_NE, self, 0});
  }
  return failed;
}

}  // namespace

Status filter_system_calls() {
  Filter filter(::seccomp_init(SCMP_ACT_ALLOW));
  if (filter == nullptr) return Error("libseccomp knows no filter for this machine");
  // Not every kernel logs, which is no reason to do without the filter.
  (void)::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_LOG, 1);
  // Before Linux 5.16 whatever has a filter is slowed down against leaks into code that it runs for
  // others: there is none here. (What a filter always allows costs next to nothing since 5.11.)
  (void)::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_SSB, 1);
  int failed = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (failed == 0) failed = add_rules(filter);
  if (failed == 0) failed = ::seccomp_load(filter.get());
  if (failed != 0) return Error::from_errno("loading a filter of system calls", -failed);
  return ok_status();
}

}  // namespace vmhop
