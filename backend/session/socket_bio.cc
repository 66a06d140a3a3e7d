#include "backend/session/socket_bio.h"

#include <openssl/bio.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace vmhop {

// The callbacks of OpenSSL's BIO interface.
struct SocketBioMethods {
  static SocketBio& self(BIO* bio) { return *static_cast<SocketBio*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* buffer, size_t size, size_t* got) {
    BIO_clear_retry_flags(bio);
    long count = self(bio).receive(buffer, size);
    if (count < 0 && errno == EAGAIN) BIO_set_retry_read(bio);
    if (count <= 0) return static_cast<int>(count);
    *got = static_cast<size_t>(count);
    return 1;
  }

  static int write(BIO* bio, const char* bytes, size_t size, size_t* put) {
    BIO_clear_retry_flags(bio);
    long count = self(bio).gather(bytes, size);
    if (count < 0 && errno == EAGAIN) BIO_set_retry_write(bio);
    if (count <= 0) return static_cast<int>(count);
    *put = static_cast<size_t>(count);
    return 1;
  }

  static long control(BIO* bio, int command, long /*number*/, void* /*pointer*/) {
    switch (command) {
      case BIO_CTRL_FLUSH: {
        BIO_clear_retry_flags(bio);
        Result<bool> sent = self(bio).flush();
        if (!sent) return -1;
        if (!*sent) BIO_set_retry_write(bio);
        return *sent ? 1 : -1;
      }
      case BIO_CTRL_EOF:
        return self(bio).at_end_ ? 1 : 0;
      default:
        return 0;
    }
  }

  static BIO_METHOD* create() {
    BIO_METHOD* methods = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "vmhop socket");
    if (methods == nullptr) return nullptr;
    BIO_meth_set_read_ex(methods, read);
    BIO_meth_set_write_ex(methods, write);
    BIO_meth_set_ctrl(methods, control);
    return methods;
  }
};

Result<std::unique_ptr<SocketBio>> SocketBio::create(UniqueFd socket) {
  // Lives as long as the process, since connections may be closed at its very end.
  static const BIO_METHOD* const methods = SocketBioMethods::create();
  VMHOP_TRY(set_nonblocking(socket.get()));
  std::unique_ptr<SocketBio> made(new SocketBio(std::move(socket)));
  made->bio_ = methods != nullptr ? BIO_new(methods) : nullptr;
  if (made->bio_ == nullptr) return Error("OpenSSL has no memory for a connection");
  BIO_set_data(made->bio_, made.get());
  BIO_set_init(made->bio_, 1);
  return made;
}

SocketBio::SocketBio(UniqueFd socket)
    : socket_(std::move(socket)), output_(new std::byte[kCapacity]) {}

SocketBio::~SocketBio() {
  BIO_free(bio_);
}

Result<bool> SocketBio::flush() {
  while (begin_ < end_) {
    ssize_t sent = ::send(socket_.get(), output_.get() + begin_, end_ - begin_, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return false;
    if (sent < 0) {
      last_errno_ = errno;
      return Error(Error::from_errno("writing to the connection", last_errno_).message(),
                   ErrorKind::kClosed);
    }
    begin_ += static_cast<size_t>(sent);
  }
  begin_ = end_ = 0;
  return true;
}

long SocketBio::receive(void* buffer, size_t size) {
  for (;;) {
    ssize_t got = ::recv(socket_.get(), buffer, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EAGAIN) last_errno_ = errno;
    if (got == 0) at_end_ = true;
    return got;
  }
}

long SocketBio::gather(const void* bytes, size_t size) {
  if (size > kCapacity - end_) {
    if (!flush()) return -1;
    if (size > kCapacity - end_) {
      errno = EAGAIN;
      return -1;
    }
  }
  std::memcpy(output_.get() + end_, bytes, size);
  end_ += size;
  return static_cast<long>(size);
}

}  // namespace vmhop
