// Keeps a disk busy in both directions: one thread appends records and syncs them, another reads
// them back past the page cache and checks them.
//
// The reads matter as much as the writes: a disk read in flight is the block layer writing to guest
// RAM, also after the vCPUs have stopped.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace witness {

class Disk {
 public:
  explicit Disk(const char* path) : path_(path) {}
  ~Disk() { Stop(); }
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  void Start();
  void Stop();  // after this, no file on the disk is open

  uint64_t synced() const { return synced_; }  // records 1 to this are on the disk
  uint64_t errors() const { return errors_; }

 private:
  void Append();
  void ReadBack();
  void Fail(const char* what);

  const char* path_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> synced_{0};
  std::atomic<uint64_t> errors_{0};
  std::thread writer_;
  std::thread reader_;
};

}  // namespace witness
