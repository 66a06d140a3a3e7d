// OpenSSL's view of a non-blocking socket. It is not OpenSSL's own because that one raises SIGPIPE
// when the peer is gone, and makes a system call for every 16 KiB record; this one gathers records
// and sends them together.
#pragma once

#include <cstddef>
#include <memory>

#include "backend/base/fd.h"
#include "backend/base/result.h"

struct bio_st;

namespace vmhop {

// What one TLS 1.3 record takes at most, with header, padding byte and tag.
inline constexpr size_t kMaxPlainRecord = 16 * 1024;
inline constexpr size_t kMaxSealedRecord = kMaxPlainRecord + 256;
inline constexpr size_t kRecordsPerSend = 16;

class SocketBio {
 public:
  static Result<std::unique_ptr<SocketBio>> create(UniqueFd socket);
  SocketBio(const SocketBio&) = delete;
  SocketBio& operator=(const SocketBio&) = delete;
  ~SocketBio();

  // For SSL_set_bio(); must not be used after this object is gone.
  bio_st* bio() const { return bio_; }
  int fd() const { return socket_.get(); }

  // Sends what was gathered; true when nothing is left, false when the socket takes no more now.
  Result<bool> flush();
  bool has_room_for_record() const { return kCapacity - end_ >= 2 * kMaxSealedRecord; }
  bool empty() const { return begin_ == end_; }
  // The errno of the last failed system call, 0 if none failed.
  int last_errno() const { return last_errno_; }

 private:
  friend struct SocketBioMethods;
  // One record more: a key update or an alert goes before data.
  static constexpr size_t kCapacity = (kRecordsPerSend + 2) * kMaxSealedRecord;

  explicit SocketBio(UniqueFd socket);
  // As read() and write(): -1 with errno set.
  long receive(void* buffer, size_t size);
  long gather(const void* bytes, size_t size);

  UniqueFd socket_;
  bio_st* bio_ = nullptr;
  std::unique_ptr<std::byte[]> output_;  // [begin_, end_) is to be sent
  size_t begin_ = 0;
  size_t end_ = 0;
  int last_errno_ = 0;
  bool at_end_ = false;
};

}  // namespace vmhop
