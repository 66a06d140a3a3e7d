// An owned mmap() range.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "backend/base/result.h"

namespace vmhop {

enum class Access { kRead, kReadWrite };

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  // Maps `size` bytes of `fd`, shared, from `offset` on (a multiple of the page size). Never
  // populated; to write, never in huge pages.
  static Result<Mapping> map_shared(int fd, size_t size, Access access, uint64_t offset = 0);

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  Mapping(std::byte* data, size_t size) : data_(data), size_(size) {}
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace vmhop
