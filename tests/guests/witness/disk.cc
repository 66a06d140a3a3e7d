#include "disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "console.h"
#include "disk_record.h"

namespace witness {
namespace {

using namespace std::chrono_literals;

constexpr auto kBetweenRecords = 200ms;
constexpr auto kBetweenReads = 5ms;

}  // namespace

void Disk::Start() {
  writer_ = std::thread([this] { Append(); });
  reader_ = std::thread([this] { ReadBack(); });
}

void Disk::Stop() {
  stop_ = true;
  if (writer_.joinable()) writer_.join();
  if (reader_.joinable()) reader_.join();
}

void Disk::Append() {
  const int fd = open(path_, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return Fail("open");
  DiskRecord record;
  for (uint64_t number = 1; !stop_; ++number) {
    FillRecord(&record, number);
    if (write(fd, &record, sizeof record) != static_cast<ssize_t>(sizeof record)) {
      Fail("write");
      break;
    }
    if (fsync(fd) != 0) {
      Fail("fsync");
      break;
    }
    synced_ = number;
    Say("SYNC %llu", static_cast<unsigned long long>(number));
    std::this_thread::sleep_for(kBetweenRecords);
  }
  close(fd);
}

void Disk::ReadBack() {
  while (synced_ == 0) {
    if (stop_) return;
    std::this_thread::sleep_for(kBetweenReads);
  }
  const int fd = open(path_, O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0) return Fail("open for reading");
  DiskRecord record;
  for (uint64_t n = 0; !stop_; ++n) {
    const uint64_t number = n % synced_ + 1;
    const auto offset = static_cast<off_t>((number - 1) * sizeof record);
    if (pread(fd, &record, sizeof record, offset) != static_cast<ssize_t>(sizeof record)) {
      Fail("read");
      break;
    }
    if (const auto mismatch = CheckRecord(record, number)) {
      if (errors_.fetch_add(1) < kMostErrorLines) {
        Say("WITNESS-ERROR page=%llu expected=%016llx got=%016llx part=disk word=%zu",
            static_cast<unsigned long long>(number),
            static_cast<unsigned long long>(mismatch->expected),
            static_cast<unsigned long long>(mismatch->got), mismatch->word);
      }
    }
    std::this_thread::sleep_for(kBetweenReads);
  }
  close(fd);
}

void Disk::Fail(const char* what) {
  ++errors_;
  Say("DISK-ERROR %s %s: %s", what, path_, strerror(errno));
}

bool CheckRecordFile(const char* path, uint64_t synced) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    fprintf(stderr, "cannot open %s: %s\n", path, strerror(errno));
    return false;
  }
  DiskRecord record;
  uint64_t number = 1;
  for (; number <= synced; ++number) {
    const auto offset = static_cast<off_t>((number - 1) * sizeof record);
    if (pread(fd, &record, sizeof record, offset) != static_cast<ssize_t>(sizeof record)) {
      fprintf(stderr, "record %llu of %llu is missing\n", static_cast<unsigned long long>(number),
              static_cast<unsigned long long>(synced));
      break;
    }
    if (const auto mismatch = CheckRecord(record, number)) {
      fprintf(stderr, "record %llu is wrong: word %zu is %016llx, expected %016llx\n",
              static_cast<unsigned long long>(number), mismatch->word,
              static_cast<unsigned long long>(mismatch->got),
              static_cast<unsigned long long>(mismatch->expected));
      break;
    }
  }
  close(fd);
  if (number <= synced) return false;
  printf("%llu records whole\n", static_cast<unsigned long long>(synced));
  return true;
}

}  // namespace witness
