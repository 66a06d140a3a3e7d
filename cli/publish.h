// Files that other programs pick up: they find a whole one or none.
#pragma once

#include <sys/types.h>

#include <string>

#include "backend/base/result.h"

namespace vmhop {

// For whoever picks them up as somebody else: node_exporter, a web server.
inline constexpr mode_t kReadableByAll = 0644;

// Puts `text` at `path` in one step, with what of `mode` the umask leaves. The file that it is made
// in lies beside it, with a name of its own that begins with a dot: several writers do not meet,
// and who collects *.prom or *.html does not see it.
Status publish_file(const std::string& path, const std::string& text, mode_t mode);

}  // namespace vmhop
