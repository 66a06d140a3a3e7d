// What a source asks a receiver for, through ssh: what can be read is sent again to the same
// meaning.
#include <sys/mman.h>
#include <unistd.h>

#include "backend/base/fd.h"
#include "cli/receive_request.h"
#include "tests/fuzz/fuzz.h"

using namespace vmhop;
using fuzz::must;
using fuzz::require;

namespace {

UniqueFd empty_file() {
  UniqueFd file(::memfd_create("request", MFD_CLOEXEC));
  require(file.valid(), "a file");
  return file;
}

ReceivedRequest read_from_start(const UniqueFd& file) {
  require(::lseek(file.get(), 0, SEEK_SET) == 0, "a file's beginning");
  return must(read_receive_request(file.get()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  UniqueFd file = empty_file();
  must(write_all(file.get(), std::as_bytes(std::span(data, size))));
  require(::lseek(file.get(), 0, SEEK_SET) == 0, "a file's beginning");
  auto received = read_receive_request(file.get());
  if (!received) return 0;
  require(::lseek(file.get(), 0, SEEK_CUR) <= static_cast<off_t>(size), "no more than there is");
  UniqueFd sent = empty_file();
  must(send_receive_request(sent.get(), received->request, received->key));
  ReceivedRequest again = read_from_start(sent);
  require(again.key == received->key && again.request.vm == received->request.vm &&
              again.request.qemu == received->request.qemu &&
              again.request.directory == received->request.directory &&
              again.request.port == received->request.port &&
              again.request.transport == received->request.transport &&
              again.request.lease == received->request.lease,
          "a request comes back as it was read");
  return 0;
}
