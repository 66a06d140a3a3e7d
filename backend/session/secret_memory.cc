#include "backend/session/secret_memory.h"

#include <openssl/crypto.h>

#include <new>

namespace vmhop {
namespace {

// Room for hundreds of secrets, and for OpenSSL's own private numbers.
constexpr size_t kSecureHeapBytes = 64 * 1024;

}  // namespace

void* allocate_secret(size_t size) {
  // Without the permission to lock memory the heap still keeps its pages out of core dumps.
  static const int heap = CRYPTO_secure_malloc_init(kSecureHeapBytes, 32);
  (void)heap;
  void* memory = OPENSSL_secure_zalloc(size);
  if (memory == nullptr) memory = OPENSSL_zalloc(size);  // the secure heap is full
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void free_secret(void* memory, size_t size) {
  // Knows by the address which heap it came from.
  OPENSSL_secure_clear_free(memory, size);
}

}  // namespace vmhop
