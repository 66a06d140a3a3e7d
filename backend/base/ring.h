// A queue in one block of memory: for hot paths, where a deque would allocate as it moves on.
#pragma once

#include <cstddef>
#include <vector>

namespace vmhop {

// First in, first out. It allocates only when it outgrows its capacity; then it doubles.
template <typename T>
class Ring {
 public:
  // Rounded up to a power of two.
  explicit Ring(size_t capacity = 64) {
    size_t size = 1;
    while (size < capacity)
      size *= 2;
    slots_.resize(size);
  }

  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  T& front() { return slots_[first_]; }
  const T& front() const { return slots_[first_]; }
  void push(T value) {
    if (count_ == slots_.size()) grow();
    slots_[(first_ + count_) & (slots_.size() - 1)] = std::move(value);
    ++count_;
  }
  void pop() {
    first_ = (first_ + 1) & (slots_.size() - 1);
    --count_;
  }
  void clear() { first_ = count_ = 0; }

 private:
  void grow() {
    std::vector<T> larger(slots_.size() * 2);
    for (size_t i = 0; i < count_; ++i)
      larger[i] = std::move(slots_[(first_ + i) & (slots_.size() - 1)]);
    slots_ = std::move(larger);
    first_ = 0;
  }

  std::vector<T> slots_;
  size_t first_ = 0;
  size_t count_ = 0;
};

}  // namespace vmhop
