// Each in a child process, since all of it is for good.
#include "backend/base/confinement.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "backend/base/fd.h"
#include "backend/base/system_call_filter.h"
#include "backend/base/thread_role.h"

namespace vmhop {
namespace {

// What the child says is wrong; empty if nothing is.
std::string in_child(const std::function<std::string()>& work) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  pid_t child = ::fork();
  if (child == 0) {
    std::string wrong = work();
    (void)write_all(write_end.get(), std::as_bytes(std::span(wrong)));
    ::_exit(wrong.empty() ? 0 : 1);
  }
  write_end.reset();
  std::string wrong;
  std::array<char, 256> chunk{};
  for (ssize_t got = 0; (got = ::read(read_end.get(), chunk.data(), chunk.size())) > 0;)
    wrong.append(chunk.data(), static_cast<size_t>(got));
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "the child was killed by signal " << WTERMSIG(status);
  return wrong;
}

bool kernel_has_filters() {
  return ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

std::string filtered(const std::function<std::string()>& work) {
  return in_child([&]() -> std::string {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return "no_new_privs";
    if (Status done = filter_system_calls(); !done) return done.error().message();
    return work();
  });
}

// With arguments that make no sense, so that whatever is allowed does nothing.
std::string expect_denied(const char* name, long number, long first = -1) {
  errno = 0;
  long result = ::syscall(number, first, -1L, -1L, -1L, -1L, -1L);
  if (result == -1 && errno == EPERM) return "";
  return fmt::format("{}: {} ({}); ", name, result, errno);
}

class SystemCallFilter : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernel_has_filters()) GTEST_SKIP() << "this kernel has no seccomp filters";
  }
};

TEST_F(SystemCallFilter, DeniesWhatAHelperHasNoUseFor) {
  EXPECT_EQ(filtered([] {
              std::string wrong;
              wrong += expect_denied("execve", SYS_execve);
              wrong += expect_denied("execveat", SYS_execveat);
              wrong += expect_denied("ptrace", SYS_ptrace, PTRACE_ATTACH);
              wrong += expect_denied("process_vm_readv", SYS_process_vm_readv);
              wrong += expect_denied("process_vm_writev", SYS_process_vm_writev);
              wrong += expect_denied("pidfd_getfd", SYS_pidfd_getfd);
              wrong += expect_denied("mount", SYS_mount);
              wrong += expect_denied("umount2", SYS_umount2);
              wrong += expect_denied("setns", SYS_setns);
              wrong += expect_denied("unshare", SYS_unshare);
              wrong += expect_denied("bpf", SYS_bpf);
              wrong += expect_denied("perf_event_open", SYS_perf_event_open);
              wrong += expect_denied("kexec_load", SYS_kexec_load);
              wrong += expect_denied("init_module", SYS_init_module);
              wrong += expect_denied("finit_module", SYS_finit_module);
              wrong += expect_denied("open_by_handle_at", SYS_open_by_handle_at);
              wrong += expect_denied("keyctl", SYS_keyctl);
              wrong += expect_denied("userfaultfd", SYS_userfaultfd, 0);
              wrong += expect_denied("io_uring_setup", SYS_io_uring_setup);
              wrong += expect_denied("setuid", SYS_setuid);
              wrong += expect_denied("fchmod", SYS_fchmod);
              return wrong;
            }),
            "");
}

TEST_F(SystemCallFilter, DeniesNewProcessesButNotThreads) {
  EXPECT_EQ(filtered([]() -> std::string {
              bool ran = false;
              std::thread([&] { ran = true; }).join();
              if (!ran) return "no thread ran";
              pid_t child = ::fork();
              if (child == 0) ::_exit(0);
              if (child != -1 || errno != EPERM) return "it forked";
              return "";
            }),
            "");
}

TEST_F(SystemCallFilter, LetsItSignalItselfOnly) {
  EXPECT_EQ(filtered([]() -> std::string {
              if (::kill(::getpid(), 0) != 0) return "not even itself";
              if (::raise(0) != 0) return "not its own thread";
              if (::kill(::getppid(), 0) == 0 || errno != EPERM) return "its parent";
              if (::kill(-1, 0) == 0 || errno != EPERM) return "everybody";
              return "";
            }),
            "");
}

TEST_F(SystemCallFilter, HoldsForThreadsThatRanBefore) {
  EXPECT_EQ(in_child([]() -> std::string {
              auto begin = EventFd::create().value();
              std::string wrong;
              std::thread earlier([&] {
                (void)wait_fd(begin.fd(), POLLIN, -1);
                wrong = expect_denied("unshare", SYS_unshare);
              });
              ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
              Status done = filter_system_calls();
              begin.notify();
              earlier.join();
              return done ? wrong : done.error().message();
            }),
            "");
}

TEST_F(SystemCallFilter, AllowsWhatAHelperLivesOn) {
  EXPECT_EQ(filtered([]() -> std::string {
              auto memory = create_memfd("confined", 4096);
              if (!memory) return memory.error().message();
              void* mapped =
                  ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory->get(), 0);
              if (mapped == MAP_FAILED || ::madvise(mapped, 4096, MADV_DONTDUMP) != 0)
                return "mmap";
              if (!socket_pair(SOCK_SEQPACKET)) return "unix sockets";
              UniqueFd tcp(::socket(AF_INET, SOCK_STREAM, 0));
              sockaddr_in any{};
              any.sin_family = AF_INET;
              if (::bind(tcp.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) != 0 ||
                  ::listen(tcp.get(), 1) != 0) {
                return "TCP";
              }
              UniqueFd netlink(::socket(AF_NETLINK, SOCK_RAW, 0));
              if (!netlink.valid()) return "netlink, which rdma_cm and the resolver need";
              if (!read_file("/proc/self/status", 1 << 16)) return "reading files";
              cpu_set_t cpus;
              if (::sched_getaffinity(0, sizeof cpus, &cpus) != 0 ||
                  ::sched_setaffinity(0, sizeof cpus, &cpus) != 0) {
                return "processors";
              }
              begin_thread("confined", ThreadRole::kBulk);
              return ::getpriority(PRIO_PROCESS, 0) == 5 ? "" : "nice";
            }),
            "");
}

struct CapabilitySets {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  CapabilitySets() { ::syscall(SYS_capget, &header, sets.data()); }
};

bool has_limit(__rlimit_resource resource, rlim_t wanted) {
  rlimit limit{};
  return ::getrlimit(resource, &limit) == 0 && limit.rlim_cur >= wanted;
}

// (A container's root may lack CAP_SYS_RESOURCE, and keeps two of them.)
TEST(Capabilities, AreDroppedAllButThoseThatNoLimitReplaces) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root has some";
  EXPECT_EQ(in_child([]() -> std::string {
              if (Status done = drop_capabilities(); !done) return done.error().message();
              CapabilitySets now;
              uint32_t left = now.sets[0].permitted;
              if (has_limit(RLIMIT_NICE, 30) != ((left & 1U << CAP_SYS_NICE) == 0)) return "nice";
              if (has_limit(RLIMIT_MEMLOCK, RLIM_INFINITY) != ((left & 1U << CAP_IPC_LOCK) == 0)) {
                return "locked memory";
              }
              left &= ~(1U << CAP_SYS_NICE | 1U << CAP_IPC_LOCK);
              return left == 0 && now.sets[1].permitted == 0 ? "" : "others are left";
            }),
            "");
}

TEST(Capabilities, AreNotMissedByAnUrgentThread) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root has some";
  EXPECT_EQ(in_child([]() -> std::string {
              if (Status done = drop_capabilities(); !done) return done.error().message();
              int nice = 0;
              std::thread([&] {
                begin_thread("urgent", ThreadRole::kFault);
                nice = ::getpriority(PRIO_PROCESS, 0);
              }).join();
              return nice == -10 ? "" : fmt::format("it has nice {}", nice);
            }),
            "");
}

TEST(Capabilities, StayWhereTheirLimitCannotBeRaised) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root has some";
  EXPECT_EQ(in_child([]() -> std::string {
              rlimit none{0, 0};
              ::setrlimit(RLIMIT_NICE, &none);
              CapabilitySets now;
              now.sets[0].effective &= ~(1U << CAP_SYS_RESOURCE);
              ::syscall(SYS_capset, &now.header, now.sets.data());
              if (Status done = drop_capabilities(); !done) return done.error().message();
              CapabilitySets left;
              return left.sets[0].effective & 1U << CAP_SYS_NICE ? "" : "CAP_SYS_NICE is gone";
            }),
            "");
}

class Writing : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "vmhop-write-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    ::mkdir((folder_ + "/mine").c_str(), 0700);
    std::ofstream(folder_ + "/other") << "old";
    long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, 1);
    if (version < 0) GTEST_SKIP() << "this kernel has no Landlock";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string restricted(const std::function<std::string()>& work) const {
    return in_child([&]() -> std::string {
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      if (Status done = restrict_writing(folder_ + "/mine"); !done) return done.error().message();
      return work();
    });
  }

  std::string folder_;
};

TEST_F(Writing, IsPossibleInTheDirectoryOfTheVm) {
  EXPECT_EQ(restricted([this]() -> std::string {
              std::string path = folder_ + "/mine/commit";
              std::string draft = path + ".new";
              UniqueFd file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
              if (!file.valid() || ::rename(draft.c_str(), path.c_str()) != 0) return "a record";
              auto socket = listen_unix(folder_ + "/mine/status.sock", SOCK_SEQPACKET);
              if (!socket) return socket.error().message();
              return ::unlink(path.c_str()) == 0 ? "" : "removing it";
            }),
            "");
}

TEST_F(Writing, IsNotPossibleElsewhere) {
  EXPECT_EQ(restricted([this]() -> std::string {
              std::string other = folder_ + "/other";
              if (UniqueFd(::open(other.c_str(), O_WRONLY)).valid()) return "another file";
              if (UniqueFd(::open((folder_ + "/new").c_str(), O_WRONLY | O_CREAT, 0600)).valid()) {
                return "a new file";
              }
              if (::unlink(other.c_str()) == 0) return "removing a file";
              if (::mkdir((folder_ + "/mine/deeper").c_str(), 0700) == 0) return "a directory";
              return UniqueFd(::open(other.c_str(), O_RDONLY)).valid() ? "" : "reading";
            }),
            "");
}

TEST(Confinement, LeavesNoCoreAndNothingForADebugger) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's run-time library does what is denied";
#endif
  EXPECT_EQ(in_child([]() -> std::string {
              ::unsetenv("VMHOP_UNCONFINED");
              confine_process();
              if (::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) return "dumpable";
              if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return "new privileges";
              auto status = read_file("/proc/thread-self/status", 1 << 16);
              if (!status) return status.error().message();
              bool filtered = status->find("Seccomp:\t2") != std::string::npos;
              return filtered == kernel_has_filters() ? "" : "no filter";
            }),
            "");
}

TEST(Confinement, IsLeftOutWhereTheEnvironmentSaysSo) {
  EXPECT_EQ(in_child([]() -> std::string {
              ::setenv("VMHOP_UNCONFINED", "1", 1);
              confine_process();
              return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? "" : "it is confined";
            }),
            "");
}

}  // namespace
}  // namespace vmhop
