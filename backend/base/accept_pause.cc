#include "backend/base/accept_pause.h"

#include <poll.h>

#include <cerrno>

namespace vmhop {
namespace {

constexpr std::chrono::milliseconds kPause{100};

}  // namespace

AcceptPause::~AcceptPause() {
  if (timer_ != 0) loop_.cancel(timer_);
}

void AcceptPause::after_failure(int error) {
  if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM) return;
  loop_.set_events(listening_, 0);
  timer_ = loop_.after(kPause, [this] {
    timer_ = 0;
    loop_.set_events(listening_, POLLIN);
  });
}

}  // namespace vmhop
