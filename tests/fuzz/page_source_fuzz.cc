// Replies on a page lane, as the destination's page source reads them. An input is a script: reads
// are posted, bytes arrive, poll() is called. Whatever arrives, arrivals are parts of what was
// posted, in order, nothing outside the targets is written (ASan looks), and when bytes arrive
// changes nothing but when pages do.
#include <sys/mman.h>
#include <unistd.h>

#include <deque>

#include "backend/tcp/tcp_page_source.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_stream.h"

using namespace vmhop;
using fuzz::Input;
using fuzz::MemoryStream;
using fuzz::must;
using fuzz::require;

namespace {

// Small pages, so that a small input has many. Region 2 is written to by its file.
constexpr uint32_t kPage = 64;
constexpr uint64_t kRegionSize = 64 * kPage;
constexpr uint32_t kRegionWithFile = 2;
constexpr uint32_t kRegions = 3;

struct Step {
  std::vector<PageRange> reads;
  std::vector<std::byte> said;
  size_t room = 1;  // for arrivals
};

uint32_t page_size(uint32_t region) {
  return region == 1 ? 4 * kPage : kPage;
}

template <typename T>
void append(std::vector<std::byte>& to, const T& value) {
  auto bytes = std::as_bytes(std::span(&value, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

PageRange read_range(Input& input) {
  uint32_t region = input.byte() % kRegions;
  uint64_t pages = kRegionSize / page_size(region);
  uint64_t first = input.byte() % pages;
  uint64_t count = 1 + input.byte() % (pages - first);
  return {region, first * page_size(region), count * page_size(region)};
}

// A reply to `range` that is as it should be.
std::vector<std::byte> good_reply(Input& input, const PageRange& range) {
  std::vector<tcp::ReplyRun> runs;
  uint64_t data = 0;
  uint8_t kinds = input.byte();
  for (uint64_t done = 0; done < range.length; done += page_size(range.region)) {
    kinds = static_cast<uint8_t>(kinds >> 1 | kinds << 7);
    auto kind = static_cast<uint16_t>((kinds & 1) != 0 ? tcp::RunKind::kData : tcp::RunKind::kZero);
    if (runs.empty() || runs.back().kind != kind) runs.push_back({0, kind, 0});
    runs.back().length += page_size(range.region);
    if ((kinds & 1) != 0) data += page_size(range.region);
  }
  std::vector<std::byte> reply;
  append(reply, tcp::ReplyHeader{tcp::kReplyMagic, static_cast<uint32_t>(runs.size())});
  for (const tcp::ReplyRun& run : runs)
    append(reply, run);
  for (uint8_t value = input.byte(); data > 0; --data)
    reply.push_back(static_cast<std::byte>(value += 7));
  return reply;
}

std::vector<Step> read_script(Input& input) {
  std::vector<Step> script;
  std::deque<PageRange> unanswered;
  while (!input.empty()) {
    Step step;
    uint8_t kind = input.byte();
    step.room = 1U + (kind >> 4);
    switch (kind % 4) {
      case 0:
        for (int i = 1 + kind / 4 % 4; i > 0; --i)
          step.reads.push_back(read_range(input));
        unanswered.insert(unanswered.end(), step.reads.begin(), step.reads.end());
        break;
      case 1: {
        auto bytes = input.bytes(input.byte());
        step.said.assign(bytes.begin(), bytes.end());
        break;
      }
      case 2:
        step.said.assign(input.word() % 8192, static_cast<std::byte>(input.byte()));
        break;
      case 3:
        if (unanswered.empty()) break;
        step.said = good_reply(input, unanswered.front());
        unanswered.pop_front();
        break;
    }
    script.push_back(std::move(step));
  }
  return script;
}

class Destination {
 public:
  Destination()
      : file_(must(create_memfd("region", kRegionSize))),
        targets_(kRegions, std::vector<std::byte>(kRegionSize)) {
    auto owned = std::make_unique<MemoryStream>();
    wire = owned.get();
    source_ = std::make_unique<TcpPageSource>(
        std::move(owned),
        std::vector<TcpPageSource::Region>{
            {page_size(0)}, {page_size(1)}, {page_size(kRegionWithFile), file_.get()}});
  }

  // False when the page source has failed.
  bool post(const std::vector<PageRange>& ranges) {
    std::vector<PageRead> reads;
    for (const PageRange& range : ranges) {
      reads.push_back({range, targets_[range.region].data() + range.offset, false});
      outstanding_.push_back(range);
    }
    return source_->post(reads).ok();
  }
  bool poll(size_t room) {
    std::vector<PageArrival> arrivals(room);
    for (;;) {
      auto count = source_->poll(arrivals);
      if (!count) return false;
      require(*count <= room, "no more arrivals than there is room for");
      if (*count == 0 && must(source_->may_wait())) return true;
      for (const PageArrival& arrival : std::span(arrivals).first(*count))
        take(arrival);
    }
  }

  // What there is now: memory, and what is still to come.
  bool operator==(const Destination& other) const {
    return targets_ == other.targets_ && outstanding_ == other.outstanding_ &&
           file_content() == other.file_content();
  }

  bool has_all() const { return outstanding_.empty(); }

  MemoryStream* wire;

 private:
  void take(const PageArrival& arrival) {
    require(!outstanding_.empty(), "nothing arrives that was not asked for");
    PageRange& read = outstanding_.front();
    const PageRange& range = arrival.range;
    require(range.region == read.region && range.offset == read.offset && range.length > 0 &&
                range.length <= read.length && range.length % page_size(range.region) == 0,
            "arrivals are whole pages of the oldest read, in order");
    read.offset += range.length;
    read.length -= range.length;
    if (read.length == 0) outstanding_.pop_front();
  }
  std::vector<std::byte> file_content() const {
    std::vector<std::byte> content(kRegionSize);
    require(::pread(file_.get(), content.data(), kRegionSize, 0) == kRegionSize, "a file");
    return content;
  }

  UniqueFd file_;
  std::vector<std::vector<std::byte>> targets_;
  std::unique_ptr<TcpPageSource> source_;
  std::deque<PageRange> outstanding_;
};

bool play(Destination& destination, const std::vector<Step>& script, size_t portion) {
  destination.wire->set_portion(portion);
  for (const Step& step : script) {
    if (!step.reads.empty() && !destination.post(step.reads)) return false;
    destination.wire->say(step.said);
    if (!destination.poll(step.room)) return false;
  }
  return true;
}

// Every read is posted before anything is said.
bool play_at_once(Destination& destination, const std::vector<Step>& script) {
  for (const Step& step : script) {
    if (!step.reads.empty() && !destination.post(step.reads)) return false;
  }
  for (const Step& step : script)
    destination.wire->say(step.said);
  return destination.poll(16);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  size_t portion = 1U + input.byte() * 8U;
  auto script = read_script(input);
  Destination stepwise;
  if (!play(stepwise, script, portion)) return 0;
  Destination at_once;
  if (!play_at_once(at_once, script)) {
    // Of a head that nobody asked for, which fails by itself once it is whole.
    require(stepwise.has_all(), "what is right in steps is right at once");
    return 0;
  }
  require(stepwise == at_once, "when bytes arrive changes nothing");
  return 0;
}
