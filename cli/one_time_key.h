// The key of a relocation by ssh, which no other relocation has. Each supervisor keeps it in the
// VM's runtime directory, beside its sockets, for as long as the relocation lasts: whoever takes
// its place (`vmhop recover`) must be able to go on.
#pragma once

#include <string>

#include "backend/base/result.h"
#include "backend/session/key.h"

namespace vmhop {

std::string one_time_key_path(const std::string& directory);

// In place of an earlier one.
Status keep_one_time_key(const std::string& directory, const Secret& key);
void forget_one_time_key(const std::string& directory);

}  // namespace vmhop
