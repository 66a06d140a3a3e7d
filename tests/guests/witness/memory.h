// Memory under watch: four parts, of which every word of every page is checked in each pass.
//
//   rewritten    checked, then written with the next generation, in order
//   read-mostly  written once, then only checked, in a scattered order
//   zeros        written with zeros once, then only checked
//   fragmented   as rewritten, but every other page of it is allocated and never touched
//
// The fragmented part gives the *host* a RAM file in which every other page is a hole. A guest
// kernel clears an anonymous page when it hands it out, which would touch all of them. The pages
// that fallocate(2) gives to a memfd are cleared only when they are first used: so those are what
// it is made of. (Needs init_on_alloc=0 on the kernel's command line.)
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace witness {

class Memory {
 public:
  // Allocates and writes `mib` MiB. Returns null, with the cause in `error`, if that much is not
  // there.
  static std::unique_ptr<Memory> Create(uint64_t mib, unsigned workers, std::string* error);

  // Starts the worker threads, which never end.
  void Start();

  uint64_t pages() const { return pages_; }    // pages checked in a pass
  uint64_t passes() const;                     // passes completed by every worker
  uint64_t errors() const { return errors_; }  // wrong pages found; each is put right again

 private:
  struct Part {
    const char* name;
    uint64_t* words = nullptr;
    uint64_t pages = 0;  // those in use, `stride` pages apart
    uint64_t stride = 1;
    uint64_t first_index = 0;  // of its first page among all pages of the witness

    uint64_t* Page(uint64_t n) const;
    Part Slice(uint64_t n, uint64_t of) const;
  };
  struct Worker {
    std::atomic<uint64_t> passes{0};
    std::thread thread;
  };

  explicit Memory(unsigned workers) : workers_(workers) {}
  void Fill() const;
  void Watch(unsigned worker);
  void Rewrite(const Part& part, uint64_t generation);
  void CheckScattered(const Part& part);
  void CheckZeros(const Part& part);
  template <typename Result>
  bool Report(const Part& part, uint64_t page, const Result& mismatch);

  Part rewritten_{"rewritten"};
  Part read_mostly_{"read-mostly"};
  Part zeros_{"zeros"};
  Part fragmented_{"fragmented"};
  uint64_t pages_ = 0;
  std::vector<Worker> workers_;
  std::atomic<uint64_t> errors_{0};
};

}  // namespace witness
