#include "backend/base/result.h"

#include <array>
#include <system_error>

namespace vmhop {
namespace {

constexpr std::array kKinds = {ErrorKind::kFailed, ErrorKind::kRefused, ErrorKind::kTimedOut,
                               ErrorKind::kClosed, ErrorKind::kAborted};

}  // namespace

const char* kind_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kFailed:
      return "failed";
    case ErrorKind::kRefused:
      return "refused";
    case ErrorKind::kTimedOut:
      return "timed_out";
    case ErrorKind::kClosed:
      return "closed";
    case ErrorKind::kAborted:
      return "aborted";
  }
  return "failed";
}

ErrorKind kind_named(std::string_view name) {
  for (ErrorKind kind : kKinds) {
    if (name == kind_name(kind)) return kind;
  }
  return ErrorKind::kFailed;
}

Error Error::from_errno(std::string_view what, int errno_value) {
  return errorf("{}: {}", what, std::generic_category().message(errno_value));
}

}  // namespace vmhop
