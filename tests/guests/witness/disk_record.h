// One record of the file that the witness appends to on its disk. Written by the guest, read back
// by the guest and, from the image, by whoever judges the relocation.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "page_pattern.h"

namespace witness {

// Record n (from 1) lies at byte (n - 1) * 4096 and is the page pattern of index n in a generation
// of its own: number, magic and body all follow from n.
struct alignas(kPageSize) DiskRecord {
  uint64_t words[kWordsPerPage];
};
static_assert(sizeof(DiskRecord) == kPageSize);

constexpr uint64_t kRecordMagic = 0x64726f6365723176;  // "v1record"

inline void FillRecord(DiskRecord* record, uint64_t number) {
  FillPage(record->words, number, kRecordMagic);
}

inline std::optional<Mismatch> CheckRecord(const DiskRecord& record, uint64_t number) {
  return CheckPage(record.words, number, kRecordMagic);
}

// Host side: whether the first `synced` records of the file are there and whole. Prints what it
// found.
bool CheckRecordFile(const char* path, uint64_t synced);

}  // namespace witness
