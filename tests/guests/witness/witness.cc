// The witness: says from inside a guest whether its memory, its disk and its time survive what is
// done to the guest. It is the init process of the test guest and owns the serial console.
//
// Lines it prints, each by a single write and ended by '\n'. Fields are added at the end only.
//
//   READY nginx=<0|1> disk=<0|1> mib=<m> workers=<w>
//       Memory is filled, heartbeats start.
//   HB <n> <ns> passes=<p> errors=<e>
//       Every 10 ms. n counts from 1 without gaps, ns is the guest's monotonic clock. A beat that
//       was missed is left out, not made up for: the gap shows in ns and in the time of arrival.
//   SYNC <n>
//       Records 1 to n of /data/records are on the disk.
//   STATUS passes=<p> errors=<e> pages=<n> synced=<n>
//       The answer to the command STATUS.
//   WITNESS-ERROR page=<i> expected=<hex> got=<hex> part=<name> word=<w>
//       A page is wrong (and put right again); with part=disk a record, at every reading. At most
//       200 such lines for memory and 200 for the disk; the count in errors= goes on.
//   DISK-ERROR <call> <path>: <cause>
//       Counts as an error too.
//   FATAL <cause>
//       The witness cannot go on; the guest powers off.
//   BYE passes=<p> errors=<e> synced=<n>
//       All is synced and unmounted; power off follows.
//
// Commands it takes on the console, each a line: STATUS, POWEROFF. The ACPI power button means
// POWEROFF.
//
// Kernel command line: vmhop.witness_mib=<n> (60% of MemTotal unless told), vmhop.smp=<workers>
// (one per CPU unless told).
//
// On the host: `witness --check-records FILE N` judges a records file taken from the disk image.
#include <dirent.h>
#include <linux/reboot.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "console.h"
#include "disk.h"
#include "disk_record.h"
#include "memory.h"

namespace witness {
namespace {

constexpr long kHeartbeatNs = 10'000'000;
constexpr char kDataDir[] = "/data";
constexpr char kRecords[] = "/data/records";

using Counter = unsigned long long;  // what printf wants for uint64_t

struct Totals {
  Counter passes;
  Counter errors;
  Counter synced;
};

class Guest {
 public:
  Guest(Memory& memory, Disk& disk) : memory_(memory), disk_(disk) {}
  Totals totals() const {
    return {memory_.passes(), memory_.errors() + disk_.errors(), disk_.synced()};
  }
  [[noreturn]] void Beat() const;
  [[noreturn]] void Serve() const;
  [[noreturn]] void PowerOff() const;

 private:
  Memory& memory_;
  Disk& disk_;
};

void Guest::Beat() const {
  // Real-time: a late heartbeat shall mean that the guest stood still, not that it was busy.
  const sched_param priority{.sched_priority = 50};
  sched_setscheduler(0, SCHED_FIFO, &priority);
  timespec next{};
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (Counter n = 1;; ++n) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const Totals all = totals();
    Say("HB %llu %lld passes=%llu errors=%llu", n, now.tv_sec * 1'000'000'000LL + now.tv_nsec,
        all.passes, all.errors);
    do {
      next.tv_nsec += kHeartbeatNs;
      if (next.tv_nsec >= 1'000'000'000) {
        next.tv_nsec -= 1'000'000'000;
        ++next.tv_sec;
      }
    } while (next.tv_sec < now.tv_sec ||
             (next.tv_sec == now.tv_sec && next.tv_nsec <= now.tv_nsec));
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr);
  }
}

void Guest::Serve() const {
  Requests requests;
  for (;;) {
    const std::string request = requests.Next();
    if (request == "POWEROFF") PowerOff();
    if (request == "STATUS") {
      const Totals all = totals();
      Say("STATUS passes=%llu errors=%llu pages=%llu synced=%llu", all.passes, all.errors,
          static_cast<Counter>(memory_.pages()), all.synced);
    }
  }
}

[[noreturn]] void CutPower() {
  sync();
  reboot(LINUX_REBOOT_CMD_POWER_OFF);
  for (;;)
    pause();
}

void Guest::PowerOff() const {
  disk_.Stop();
  kill(-1, SIGTERM);
  umount2(kDataDir, 0);
  const Totals all = totals();
  Say("BYE passes=%llu errors=%llu synced=%llu", all.passes, all.errors, all.synced);
  tcdrain(STDOUT_FILENO);
  CutPower();
}

std::optional<uint64_t> KernelParameter(std::string_view name) {
  std::ifstream file("/proc/cmdline");
  for (std::string word; file >> word;) {
    if (word.size() > name.size() && word.starts_with(name) && word[name.size()] == '=') {
      return strtoull(word.c_str() + name.size() + 1, nullptr, 10);
    }
  }
  return std::nullopt;
}

uint64_t MemInfoMib(std::string_view field) {
  std::ifstream file("/proc/meminfo");
  std::string name;
  uint64_t kib = 0;
  for (std::string unit; file >> name >> kib && std::getline(file, unit);) {
    if (name == field) return kib / 1024;
  }
  return 0;
}

bool IsMountPoint(const char* path) {
  struct stat here {};
  struct stat root {};
  return stat(path, &here) == 0 && stat("/", &root) == 0 && here.st_dev != root.st_dev;
}

int Run() {
  signal(SIGCHLD, SIG_IGN);  // as init: nothing becomes a zombie
  MakeConsoleRaw();
  const auto workers = static_cast<unsigned>(
      KernelParameter("vmhop.smp").value_or(std::thread::hardware_concurrency()));
  const uint64_t mib =
      KernelParameter("vmhop.witness_mib").value_or(MemInfoMib("MemTotal:") * 6 / 10);
  std::string error;
  const auto memory = Memory::Create(mib, workers > 0 ? workers : 1, &error);
  if (!memory) {
    Say("FATAL %s", error.c_str());
    CutPower();
  }
  Disk disk(kRecords);
  const bool has_disk = IsMountPoint(kDataDir);
  const Guest guest(*memory, disk);

  Say("READY nginx=%d disk=%d mib=%llu workers=%u", access("/run/nginx.pid", F_OK) == 0, has_disk,
      static_cast<Counter>(mib), workers);
  std::thread([&guest] { guest.Beat(); }).detach();
  memory->Start();
  if (has_disk) disk.Start();
  guest.Serve();
}

}  // namespace
}  // namespace witness

int main(int argc, char** argv) {
  if (argc == 4 && strcmp(argv[1], "--check-records") == 0) {
    return witness::CheckRecordFile(argv[2], strtoull(argv[3], nullptr, 10)) ? 0 : 1;
  }
  if (getpid() != 1) {
    fprintf(stderr, "usage: %s --check-records FILE N   (otherwise it runs as a guest's init)\n",
            argv[0]);
    return 2;
  }
  return witness::Run();
}
