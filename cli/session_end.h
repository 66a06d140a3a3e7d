// What happens to a VM when the login session that started it is over.
#pragma once

#include <string>

#include "backend/base/result.h"

namespace vmhop {

// Where systemd says what lasts, for the tests.
struct SessionPlaces {
  std::string booted = "/run/systemd/system";         // there if systemd runs this host
  std::string lingering = "/var/lib/systemd/linger";  // a file for each user whose services last
};

// kRefused when this user's runtime directory would go with the session: systemd removes it with
// the last one, unless the user lingers.
Status check_outlives_session(const SessionPlaces& places = {});

}  // namespace vmhop
