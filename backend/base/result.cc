#include "backend/base/result.h"

#include <system_error>

namespace vmhop {

Error Error::from_errno(std::string_view what, int errno_value) {
  return errorf("{}: {}", what, std::generic_category().message(errno_value));
}

}  // namespace vmhop
