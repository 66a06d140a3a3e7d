// The sides of the comparison: vmhop, and QEMU's own ways to migrate, behind one interface.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "bench/modes.h"
#include "cli/qmp_client.h"
#include "tests/lab/clock.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::bench {

struct Move {
  lab::Clock::time_point asked;      // right before the command
  lab::Clock::time_point stopped;    // the source's STOP
  lab::Clock::time_point resumed;    // the destination's RESUME
  lab::Clock::time_point completed;  // the source is not needed any more
  bool moved = true;                 // false: given up, the guest still runs at the source
};

// How far a relocation is followed. Its processes are killed where that ends.
enum class Until {
  kDrained,  // the source is not needed any more
  kResumed,  // the guest runs at the destination: all that a blackout takes
};

// The guest's QEMU command, without a word about the memory behind its RAM.
using GuestCommand = std::function<std::vector<std::string>(const lab::QemuPlace&)>;

// In this order, from the main thread. One object for one relocation; its processes end with it.
class Mover {
 public:
  virtual ~Mover() = default;

  // Starts the guest at the source: QEMU's process.
  virtual Result<pid_t> start_source(const GuestCommand& guest) = 0;
  // ... and a monitor of it.
  virtual QmpClient& source_monitor() = 0;
  virtual Status prepare_destination(const GuestCommand& guest) = 0;
  // To kResumed: `completed` is when the guest resumed.
  virtual Result<Move> relocate(Until until) = 0;
};

enum class PageData {
  kPlain,
  kEncrypted,
  kByRdma,  // plain, too; between hosts with such a device
};

// Both hosts must outlive the mover. `mode` is one of all_modes() or encrypted_modes().
std::unique_ptr<Mover> make_mover(const std::string& mode, const lab::VmhopHost& source,
                                  const lab::VmhopHost& destination, uint64_t ram_mib);
std::unique_ptr<Mover> make_vmhop_mover(PageData data, const lab::VmhopHost& source,
                                        const lab::VmhopHost& destination);
enum class QemuMode { kPrecopy, kPostcopy, kPreempt };
std::unique_ptr<Mover> make_qemu_mover(QemuMode mode, PageData data, const lab::VmhopHost& source,
                                       const lab::VmhopHost& destination, uint64_t ram_mib);

}  // namespace vmhop::bench
