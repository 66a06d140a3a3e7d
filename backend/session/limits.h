// How much one message may carry. A sender keeps to it; a receiver refuses more before it
// allocates anything.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmhop {

inline constexpr size_t kMaxStateBytes = 256 * 1024;       // DeviceState, ReturnPath
inline constexpr size_t kMaxExtentsPerLayout = 32 * 1024;  // 512 KiB of them
inline constexpr size_t kMaxRegions = 64;
inline constexpr size_t kMaxRegionId = 255;  // QEMU's own limit for a RAM block
inline constexpr size_t kMaxName = 255;      // VM, machine type, QEMU version
inline constexpr size_t kMaxReason = 4096;   // encode() cuts longer ones
inline constexpr uint8_t kMaxFaultLanes = 16;
inline constexpr uint8_t kMaxBulkLanes = 64;
inline constexpr size_t kMaxRdmaAddresses = 32;
inline constexpr size_t kMaxRdmaAddress = 64;  // bytes of a numeric one
inline constexpr size_t kMaxRdmaTickets = size_t{kMaxFaultLanes} + kMaxBulkLanes;
inline constexpr size_t kMaxKeysPerMessage = 16 * 1024;       // 448 KiB of them
inline constexpr size_t kMaxChecksumsPerMessage = 64 * 1024;  // 256 KiB of them

}  // namespace vmhop
