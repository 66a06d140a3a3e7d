// What a command says, for a person or for other programs to pick up.
#pragma once

#include <string>

#include "backend/base/result.h"

namespace vmhop {

// Prints `text`; or, where `output` names a file, puts it there in one step: who looks finds a
// whole one or none, and may read it as far as the umask allows. The file that it is made in lies
// beside it, with a name of its own that begins with a dot: several writers do not meet, and who
// collects *.prom or *.html does not see it.
Status print_or_publish(const std::string& output, const std::string& text);

}  // namespace vmhop
