// Where secrets lie: OpenSSL's secure heap (locked in memory, left out of core dumps) while it has
// room and the limits allow it, else the ordinary one. Overwritten when they go. The first one in a
// process makes that heap, which OpenSSL allows only while no other thread works with OpenSSL: keys
// and certificates are read before connections are made.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace vmhop {

// `size` zeros; throws std::bad_alloc.
void* allocate_secret(size_t size);
void free_secret(void* memory, size_t size);

struct SecretCleanser {
  size_t size = 0;
  void operator()(char* memory) const { free_secret(memory, size); }
};

// A secret text of any length, such as a private key in PEM.
class SecretText {
 public:
  SecretText() = default;
  // `size` zeros, to be written to bytes().
  explicit SecretText(size_t size)
      : bytes_(static_cast<char*>(allocate_secret(size)), SecretCleanser{size}) {}

  size_t size() const { return bytes_.get_deleter().size; }
  std::string_view view() const { return {bytes_.get(), size()}; }
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(bytes_.get(), size())); }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(view())); }

 private:
  std::unique_ptr<char[], SecretCleanser> bytes_;
};

}  // namespace vmhop
