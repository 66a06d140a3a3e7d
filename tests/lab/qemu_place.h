// What one host's QEMU has of its own, and offers to the lab.
#pragma once

#include <string>
#include <vector>

namespace vmhop::lab {

// Each is the path of a unix socket or, where QEMU runs on another kernel, ADDRESS:PORT.
struct QemuPlace {
  std::string console;  // the serial port
  std::string monitor;  // a QMP monitor for the lab; vmhop has its own two

  // The options that make them.
  std::vector<std::string> qemu_options() const;
};

QemuPlace place_in(const std::string& directory);
QemuPlace place_at(const std::string& address);

}  // namespace vmhop::lab
