#include "cli/session_end.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

#include "cli/runtime_dir.h"

namespace vmhop {

Status check_outlives_session(const SessionPlaces& places) {
  const char* session = std::getenv("XDG_RUNTIME_DIR");
  VMHOP_ASSIGN(std::string base, runtime_base());
  bool goes_with_session = session != nullptr && *session != '\0' &&
                           base.starts_with(std::string(session) + "/") &&
                           ::access(places.booted.c_str(), F_OK) == 0;
  if (!goes_with_session) return ok_status();
  const passwd* user = ::getpwuid(::geteuid());
  std::string name = user != nullptr ? user->pw_name : std::to_string(::geteuid());
  if (::access((places.lingering + "/" + name).c_str(), F_OK) == 0) return ok_status();
  return refusedf(
      "{0} is removed when {1} logs out, and the VM's sockets with it. Have root run `loginctl "
      "enable-linger {1}`, or set VMHOP_RUNTIME_DIR to a directory that stays",
      base, name);
}

}  // namespace vmhop
