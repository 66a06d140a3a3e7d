// The shared key of two hosts, and the secrets made from it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "backend/base/result.h"

namespace vmhop {

// 256 secret bits. They live on OpenSSL's secure heap (locked in memory, left out of core dumps)
// while it has room and the limits allow it, and are cleansed when the Secret goes. Moving leaves
// an empty Secret behind, good only for assignment and destruction.
class Secret {
 public:
  static constexpr size_t kSize = 32;
  using Bytes = std::span<const std::byte, kSize>;

  static Result<Secret> random();
  static Secret from_bytes(Bytes bytes);
  // 64 hexadecimal digits. This and to_hex() are for files and for local sockets between our own
  // processes; who holds the text cleanses it (cleanse()).
  static Result<Secret> from_hex(std::string_view hex);
  std::string to_hex() const;

  Secret clone() const { return from_bytes(bytes()); }
  Bytes bytes() const { return Bytes(bytes_.get(), kSize); }
  // In constant time.
  bool operator==(const Secret& other) const;

 private:
  struct Cleanser {
    void operator()(std::byte* bytes) const;
  };
  Secret();
  std::unique_ptr<std::byte[], Cleanser> bytes_;
};

// Overwrites the text in a way that no compiler removes, and empties it.
void cleanse(std::string& text);

// HKDF-SHA256 of `secret` with `label` as the info. Fails only where OpenSSL has no SHA-256 or no
// memory.
Result<Secret> derive(const Secret& secret, std::string_view label);

// HMAC-SHA256 of the concatenation of `parts`.
Result<Secret> hmac(const Secret& secret, std::span<const std::span<const std::byte>> parts);

// Fills `bytes` from the system's random generator.
Status fill_random(std::span<std::byte> bytes);

// Root: /etc/vmhop/key; others: $XDG_CONFIG_HOME/vmhop/key or ~/.config/vmhop/key.
std::string default_key_path();

// A key file is one line, "vmhop-key-1 <64 hex digits>". Refused (kRefused) when it is missing, is
// readable or writable by others than its owner, or is not a key file.
Result<Secret> load_key(const std::string& path);
// Writes a fresh key with mode 0600, and its parent directory with mode 0700 if there is none.
// Never overwrites.
Status write_new_key(const std::string& path);
// The same for a key that there is already.
Status write_key(const std::string& path, const Secret& key);

}  // namespace vmhop
