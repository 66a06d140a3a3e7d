// The messages of a session between the source's exporter and the destination's pager. One TLS
// connection carries them; docs/protocol.md tells the story they make.
//
// On the wire each is a MessageHeader and a body: fixed-width little-endian fields, strings and
// lists preceded by their 32-bit count. Every field is validated on arrival; a value that this
// version does not know is an error that names it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "backend/base/extents.h"
#include "backend/base/result.h"

namespace vmhop {

inline constexpr uint16_t kProtocolVersion = 3;
// Larger frames are refused before they are read.
inline constexpr uint32_t kMaxMessageBody = 1 << 20;

struct MessageHeader {
  uint32_t body_length;
  uint16_t type;
  uint16_t reserved;  // 0
};
static_assert(sizeof(MessageHeader) == 8);

// Names one relocation; random, made by the source.
using RelocationId = std::array<uint8_t, 16>;

// How page data travels on TCP.
enum class DataProtection : uint8_t { kEncrypted = 1, kPlain = 2 };
// What the source did with the VM before it stopped it.
enum class RunState : uint8_t { kRunning = 1, kPaused = 2 };
// The destination's side of the commit; kept in the page map, so it survives the pager.
enum class DestinationState : uint8_t {
  kWaiting = 1,    // no relocation yet
  kPreparing = 2,  // a source is connected, its VM still runs there
  kLoaded = 3,     // device state loaded: in doubt until the source says commit or abort
  kCommitted = 4,  // the VM belongs here
  kDrained = 5,    // every page is resident
  kEnded = 6,      // the VM ran here and ended before it was drained
  kReturned = 7,   // it never ran here: the source may run it again
  kAborted = 8,    // the source has it, and nothing of it may run here; never in a message
};

struct RegionInfo {
  std::string id;  // QEMU's RAM block, at most 255 bytes
  uint64_t size;   // bytes
  uint32_t page_size;
  bool operator==(const RegionInfo&) const = default;
};

// source → destination ------------------------------------------------------------------------

// The first message of a session, fresh or after a lost connection.
struct Hello {
  uint16_t version = kProtocolVersion;
  RelocationId relocation{};
  std::string vm;
  std::string machine;       // QEMU's full name of the machine type, "pc-q35-7.2"
  std::string qemu_version;  // "7.2.22"
  DataProtection data = DataProtection::kEncrypted;
  uint8_t fault_lanes = 1;
  uint8_t bulk_lanes = 2;
  uint64_t lane_generation =
      0;                   // random, in the identity of each lane that belongs to this session
  bool resumed = false;    // the source has recorded a commit or an abort: a reconnect
  bool rdma = false;       // the source would have its memory read by RDMA
  bool verify = false;     // it will announce checksums, and every page is to be compared with them
  uint64_t bandwidth = 0;  // bytes a second that precaching may take; 0: no limit
  std::vector<RegionInfo> regions;
  bool operator==(const Hello&) const = default;
};
// Populated extents of one region. Preliminary ones are sent while the VM runs: what they lack is
// unknown. The final ones, computed after the stop, are complete: what they lack is a hole. A
// layout may take several messages; `last` marks its end.
enum class LayoutKind : uint8_t { kPreliminary = 1, kFinal = 2 };
struct Layout {
  uint32_t region = 0;
  LayoutKind kind = LayoutKind::kPreliminary;
  bool last = false;
  std::vector<Extent> extents;
  bool operator==(const Layout&) const = default;
};
// Lanes are up and the preliminary layout is sent: get ready for device state.
struct Prepare {
  bool operator==(const Prepare&) const = default;
};
// The VM is stopped and QEMU has drained its disks: memory may be read from now on.
struct ReadPoint {
  RunState before_stop = RunState::kRunning;
  bool operator==(const ReadPoint&) const = default;
};
struct DeviceState {
  std::vector<std::byte> bytes;
  bool operator==(const DeviceState&) const = default;
};
// The source's decision, recorded before it is sent; idempotent.
struct Commit {
  RunState before_stop = RunState::kRunning;
  bool operator==(const Commit&) const = default;
};
// Drained or Ended arrived, the memory is freed.
struct Released {
  bool operator==(const Released&) const = default;
};

// Where and with which tickets the source lets RDMA connections in: a ticket for each lane of
// Hello, the fault lane's first. A ticket is good for one connection.
using RdmaToken = std::array<uint8_t, 32>;
struct RdmaTicket {
  RdmaToken request{};  // what the destination shows
  RdmaToken reply{};    // what the source shows in return
  bool operator==(const RdmaTicket&) const = default;
};
struct RdmaOffer {
  uint16_t port = 0;
  std::vector<std::string> addresses;  // numeric, the likeliest first
  std::vector<RdmaTicket> tickets;
  bool operator==(const RdmaOffer&) const = default;
};
// Ranges of one region that RDMA may read; they add to those sent before.
struct MemoryKeys {
  struct Range {
    uint64_t offset = 0;   // bytes, within the region
    uint64_t length = 0;   // bytes
    uint64_t address = 0;  // of its first byte, as RDMA names it
    uint32_t key = 0;
    bool operator==(const Range&) const = default;
  };
  uint32_t region = 0;
  std::vector<Range> ranges;
  bool operator==(const MemoryKeys&) const = default;
};

// CRC32C of consecutive pages of one region, in the order of regions and pages. Sent after the
// commit, of what is populated; after a lost link from the beginning.
struct Checksums {
  uint32_t region = 0;
  uint64_t offset = 0;  // bytes, of the first page
  bool last = false;    // there are no more, of any region
  std::vector<uint32_t> pages;
  bool operator==(const Checksums&) const = default;
};

// destination → source ------------------------------------------------------------------------

struct Welcome {
  uint16_t version = kProtocolVersion;
  DestinationState state = DestinationState::kWaiting;
  bool rdma = false;        // so would the destination
  std::string rdma_reason;  // why not, and what to do about it
  bool operator==(const Welcome&) const = default;
};
// No, and nothing was changed.
struct Refuse {
  std::string reason;
  bool operator==(const Refuse&) const = default;
};
struct Prepared {
  bool operator==(const Prepared&) const = default;
};
// QEMU's return path.
struct ReturnPath {
  std::vector<std::byte> bytes;
  bool operator==(const ReturnPath&) const = default;
};
struct Loaded {
  bool operator==(const Loaded&) const = default;
};
// The VM runs at the destination (or is paused there, as it was).
struct Running {
  uint64_t after_commit_ns = 0;  // from the arrival of Commit to the RESUME event
  bool operator==(const Running&) const = default;
};
// QEMU could not continue here, never ran and is gone: the VM is the source's again.
struct Returned {
  std::string reason;
  bool operator==(const Returned&) const = default;
};
struct Progress {
  uint64_t pages_total = 0;     // populated at the source, as far as known
  uint64_t pages_resident = 0;  // of them, those that are here; all of them once it is drained
  uint64_t pages_faulted = 0;
  uint64_t pages_precached = 0;
  uint64_t pages_hole = 0;
  uint64_t bytes_read = 0;
  uint64_t faults = 0;
  uint64_t fault_p50_ns = 0;
  uint64_t fault_p99_ns = 0;
  uint64_t fault_max_ns = 0;
  uint64_t pages_verified = 0;  // of those resident, compared with the source's checksums
  uint64_t pages_wrong = 0;     // other bytes than the source's: withheld, or seen by the guest
  bool operator==(const Progress&) const = default;
};
struct Drained {
  uint64_t after_running_ns = 0;  // from RESUME to the last page
  bool operator==(const Drained&) const = default;
};
struct Ended {
  std::string reason;
  bool operator==(const Ended&) const = default;
};

// The answer to RdmaOffer. Without a connection pages travel on the lanes.
struct RdmaAnswer {
  bool connected = false;
  std::string detail;  // the route, or why there is none
  bool operator==(const RdmaAnswer&) const = default;
};

// either way ----------------------------------------------------------------------------------

// Before the commit: it is off. The source's VM goes on there; idempotent.
struct Abort {
  std::string reason;
  bool operator==(const Abort&) const = default;
};
struct Ping {
  uint64_t cookie = 0;
  bool operator==(const Ping&) const = default;
};
struct Pong {
  uint64_t cookie = 0;
  bool operator==(const Pong&) const = default;
};

// The order is the wire's: type number = index + 1. Append only.
using Message =
    std::variant<Hello, Layout, Prepare, ReadPoint, DeviceState, Commit, Released, Welcome, Refuse,
                 Prepared, ReturnPath, Loaded, Running, Returned, Progress, Drained, Ended, Abort,
                 Ping, Pong, RdmaOffer, RdmaAnswer, MemoryKeys, Checksums>;

const char* message_name(const Message& message);

// Header and body, ready to send.
std::vector<std::byte> encode(const Message& message);

// Checks a header: known type, body within kMaxMessageBody, reserved zero.
Result<MessageHeader> decode_header(std::span<const std::byte, sizeof(MessageHeader)> bytes);
// Decodes the body that belongs to a checked header; every byte must be used.
Result<Message> decode_body(const MessageHeader& header, std::span<const std::byte> body);

}  // namespace vmhop
