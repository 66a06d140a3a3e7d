#include "backend/session/key_passing.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace vmhop {

Result<UniqueFd> pass_key(const Secret& key) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("a pipe for a key", errno);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  VMHOP_TRY(write_all(write_end.get(), key.bytes()));
  return read_end;
}

Result<Secret> take_key(UniqueFd passed) {
  std::array<std::byte, Secret::kSize> bytes{};
  VMHOP_ASSIGN(short ready, wait_fd(passed.get(), POLLIN, 0));
  ssize_t got = (ready & POLLIN) != 0 ? ::read(passed.get(), bytes.data(), bytes.size()) : 0;
  if (got < 0) return Error::from_errno("reading a key", errno);
  if (static_cast<size_t>(got) != bytes.size()) return refusedf("no key came with the message");
  Secret key = Secret::from_bytes(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return key;
}

}  // namespace vmhop
