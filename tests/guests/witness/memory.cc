#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "console.h"
#include "page_pattern.h"

namespace witness {
namespace {

// Of ten parts of the memory. The fragmented part fills its share of RAM, of which it uses half.
constexpr uint64_t kRewrittenTenths = 5;
constexpr uint64_t kReadMostlyTenths = 2;
constexpr uint64_t kZerosTenths = 1;

constexpr uint64_t kFirstGeneration = 1;

uint64_t* MapAnonymous(uint64_t pages) {
  void* at = mmap(nullptr, pages * kPageSize, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<uint64_t*>(at);
}

uint64_t* MapAllocatedButUntouched(uint64_t pages) {
  const int fd = memfd_create("fragmented", MFD_CLOEXEC);
  if (fd < 0) return nullptr;
  const auto size = static_cast<off_t>(pages * kPageSize);
  void* at = MAP_FAILED;
  if (ftruncate(fd, size) == 0 && fallocate(fd, 0, 0, size) == 0) {
    at = mmap(nullptr, pages * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  close(fd);
  return at == MAP_FAILED ? nullptr : static_cast<uint64_t*>(at);
}

}  // namespace

uint64_t* Memory::Part::Page(uint64_t n) const {
  return words + n * stride * kWordsPerPage;
}

Memory::Part Memory::Part::Slice(uint64_t n, uint64_t of) const {
  const uint64_t begin = pages * n / of;
  const uint64_t end = pages * (n + 1) / of;
  return {name, Page(begin), end - begin, stride, first_index + begin};
}

std::unique_ptr<Memory> Memory::Create(uint64_t mib, unsigned workers, std::string* error) {
  const uint64_t total = mib * ((1 << 20) / kPageSize);
  std::unique_ptr<Memory> memory(new Memory(workers));

  // First, as long as the kernel has memory that was never touched to give.
  const uint64_t fragmented_span =
      total - total / 10 * (kRewrittenTenths + kReadMostlyTenths + kZerosTenths);
  memory->fragmented_.words = MapAllocatedButUntouched(fragmented_span);
  memory->fragmented_.pages = fragmented_span / 2;
  memory->fragmented_.stride = 2;

  memory->rewritten_.pages = total / 10 * kRewrittenTenths;
  memory->read_mostly_.pages = total / 10 * kReadMostlyTenths;
  memory->zeros_.pages = total / 10 * kZerosTenths;
  for (Part* part : {&memory->rewritten_, &memory->read_mostly_, &memory->zeros_}) {
    part->words = MapAnonymous(part->pages);
  }
  for (Part* part :
       {&memory->rewritten_, &memory->read_mostly_, &memory->zeros_, &memory->fragmented_}) {
    if (part->words == nullptr) {
      *error = std::string("cannot allocate the ") + part->name + " part: " + strerror(errno);
      return nullptr;
    }
    part->first_index = memory->pages_;
    memory->pages_ += part->pages;
  }
  memory->Fill();
  return memory;
}

void Memory::Fill() const {
  for (const Part* part : {&rewritten_, &read_mostly_, &fragmented_}) {
    for (uint64_t page = 0; page < part->pages; ++page) {
      FillPage(part->Page(page), part->first_index + page, kFirstGeneration);
    }
  }
  memset(zeros_.words, 0, zeros_.pages * kPageSize);
}

void Memory::Start() {
  for (unsigned worker = 0; worker < workers_.size(); ++worker) {
    workers_[worker].thread = std::thread([this, worker] { Watch(worker); });
  }
}

uint64_t Memory::passes() const {
  uint64_t least = UINT64_MAX;
  for (const Worker& worker : workers_)
    least = std::min<uint64_t>(least, worker.passes);
  return least;
}

void Memory::Watch(unsigned worker) {
  // On Linux the nice value is the thread's. The web server goes first.
  setpriority(PRIO_PROCESS, 0, 10);
  const uint64_t of = workers_.size();
  const Part rewritten = rewritten_.Slice(worker, of);
  const Part read_mostly = read_mostly_.Slice(worker, of);
  const Part zeros = zeros_.Slice(worker, of);
  const Part fragmented = fragmented_.Slice(worker, of);
  for (uint64_t generation = kFirstGeneration;; ++generation) {
    Rewrite(rewritten, generation);
    CheckScattered(read_mostly);
    CheckZeros(zeros);
    Rewrite(fragmented, generation);
    ++workers_[worker].passes;
  }
}

void Memory::Rewrite(const Part& part, uint64_t generation) {
  for (uint64_t page = 0; page < part.pages; ++page) {
    uint64_t* words = part.Page(page);
    const uint64_t index = part.first_index + page;
    Report(part, page, CheckPage(words, index, generation));
    FillPage(words, index, generation + 1);
  }
}

void Memory::CheckScattered(const Part& part) {
  constexpr uint64_t kPrimeStep = 2654435761;  // has no factor in common with any number of pages
  for (uint64_t n = 0; n < part.pages; ++n) {
    const uint64_t page = n * kPrimeStep % part.pages;
    const uint64_t index = part.first_index + page;
    if (Report(part, page, CheckPage(part.Page(page), index, kFirstGeneration))) {
      FillPage(part.Page(page), index, kFirstGeneration);
    }
  }
}

void Memory::CheckZeros(const Part& part) {
  for (uint64_t page = 0; page < part.pages; ++page) {
    if (Report(part, page, CheckZeroPage(part.Page(page)))) memset(part.Page(page), 0, kPageSize);
  }
}

// Whether the page was wrong. A wrong page is put right again, so each corruption counts once.
template <typename Result>
bool Memory::Report(const Part& part, uint64_t page, const Result& mismatch) {
  if (!mismatch) return false;
  if (errors_.fetch_add(1) < kMostErrorLines) {
    Say("WITNESS-ERROR page=%llu expected=%016llx got=%016llx part=%s word=%zu",
        static_cast<unsigned long long>(part.first_index + page),
        static_cast<unsigned long long>(mismatch->expected),
        static_cast<unsigned long long>(mismatch->got), part.name, mismatch->word);
  }
  return true;
}

}  // namespace witness
