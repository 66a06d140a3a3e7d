// Requests on a page lane, as the source's page server reads them. What it answers is compared with
// what the memory has, byte for byte.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <future>

#include "backend/tcp/page_server.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_stream.h"

using namespace vmhop;
using fuzz::Input;
using fuzz::MemoryStream;
using fuzz::must;
using fuzz::require;

namespace {

// By position, for as many pages as a region has.
enum class Is : uint8_t { kData, kZeros, kHole };
constexpr std::array kPages{Is::kData, Is::kZeros, Is::kHole, Is::kData, Is::kData, Is::kHole};

RamRegion make_region(const char* id, uint32_t page_size) {
  RegionInfo info{id, kPages.size() * page_size, page_size};
  UniqueFd memfd = must(create_memfd(id, info.size));
  for (size_t page = 0; page < kPages.size(); ++page) {
    if (kPages[page] == Is::kHole) continue;
    std::vector<std::byte> bytes(page_size);
    if (kPages[page] == Is::kData) bytes.back() = static_cast<std::byte>(1 + page);
    require(::pwrite(memfd.get(), bytes.data(), page_size, static_cast<off_t>(page * page_size)) ==
                static_cast<ssize_t>(page_size),
            "memory");
  }
  return must(RamRegion::map(info, std::move(memfd), Access::kRead));
}

std::span<const RamRegion> regions() {
  static const std::array all{make_region("small", 4096), make_region("large", 16384)};
  return all;
}

// What is known of the layout changes no answer.
std::shared_ptr<const SourceLayout> layout_of(uint8_t kind) {
  if (kind == 0) return nullptr;
  auto layout = std::make_shared<SourceLayout>();
  for (const RamRegion& region : regions())
    layout->extents.push_back(must(region.populated_extents()));
  if (kind == 1) layout->extents.front().pop_back();
  if (kind == 2) layout->extents.pop_back();
  return layout;
}

template <typename T>
void append(std::vector<std::byte>& to, const T& value) {
  auto bytes = std::as_bytes(std::span(&value, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

bool is_there(const tcp::RequestRange& range) {
  if (range.region >= regions().size()) return false;
  const RegionInfo& info = regions()[range.region].info();
  return range.length > 0 && range.length % info.page_size == 0 &&
         range.offset % info.page_size == 0 && range.offset <= info.size &&
         range.length <= info.size - range.offset;
}

void append_reply(std::vector<std::byte>& to, const tcp::RequestRange& range) {
  const RamRegion& region = regions()[range.region];
  uint32_t page_size = region.info().page_size;
  std::vector<tcp::ReplyRun> runs;
  std::vector<std::byte> data;
  for (uint64_t offset = range.offset; offset < range.offset + range.length; offset += page_size) {
    bool has_data = kPages[offset / page_size] == Is::kData;
    auto kind = static_cast<uint16_t>(has_data ? tcp::RunKind::kData : tcp::RunKind::kZero);
    if (runs.empty() || runs.back().kind != kind) runs.push_back({0, kind, 0});
    runs.back().length += page_size;
    if (has_data)
      data.insert(data.end(), region.alias() + offset, region.alias() + offset + page_size);
  }
  append(to, tcp::ReplyHeader{tcp::kReplyMagic, static_cast<uint32_t>(runs.size())});
  for (const tcp::ReplyRun& run : runs)
    append(to, run);
  to.insert(to.end(), data.begin(), data.end());
}

// The answers to `said`, up to where it ends or makes no sense.
std::vector<std::byte> expected_answers(std::span<const std::byte> said) {
  std::vector<std::byte> answers;
  Input input(reinterpret_cast<const uint8_t*>(said.data()), said.size());
  for (;;) {
    tcp::RequestHeader header{};
    auto head = input.bytes(sizeof header);
    if (head.size() < sizeof header) return answers;
    std::memcpy(&header, head.data(), sizeof header);
    if (header.magic != tcp::kRequestMagic || header.ranges == 0 ||
        header.ranges > tcp::kMaxRangesPerRequest) {
      return answers;
    }
    std::vector<tcp::RequestRange> ranges(header.ranges);
    auto body = input.bytes(ranges.size() * sizeof(tcp::RequestRange));
    if (body.size() < ranges.size() * sizeof(tcp::RequestRange)) return answers;
    std::memcpy(ranges.data(), body.data(), body.size());
    for (const tcp::RequestRange& range : ranges) {
      if (!is_there(range)) {
        append(answers, tcp::ReplyHeader{tcp::kReplyMagic, tcp::kRefusedRuns});
        append(answers, tcp::ReplyRun{});
        return answers;
      }
      append_reply(answers, range);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  PageStore store(regions());
  store.set_layout(layout_of(input.byte() % 4));
  // Always ready: whoever waits for the stream asks it again.
  static const UniqueFd ready(::eventfd(1, EFD_CLOEXEC));
  auto owned = std::make_unique<MemoryStream>(ready.get());
  MemoryStream* wire = owned.get();
  wire->set_portion(1U + input.byte() * 257U);
  auto said = input.rest();
  wire->say(said);
  wire->end();

  PageServerCounters counters;
  std::promise<void> closed;
  auto server = must(PageServer::start(std::move(owned), store, PageServer::Pace::kBulk, counters,
                                       [&closed](const Error&) { closed.set_value(); }));
  closed.get_future().wait();
  require(wire->heard() == expected_answers(said), "each page asked for is answered as it is");
  return 0;
}
