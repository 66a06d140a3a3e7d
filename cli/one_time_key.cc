#include "cli/one_time_key.h"

#include <unistd.h>

namespace vmhop {

std::string one_time_key_path(const std::string& directory) {
  return directory + "/key";
}

Status keep_one_time_key(const std::string& directory, const Secret& key) {
  forget_one_time_key(directory);
  return write_key(one_time_key_path(directory), key);
}

void forget_one_time_key(const std::string& directory) {
  ::unlink(one_time_key_path(directory).c_str());
}

}  // namespace vmhop
