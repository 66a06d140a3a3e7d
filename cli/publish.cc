#include "cli/publish.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkostemp() is the C library's
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "backend/base/fd.h"

namespace vmhop {
namespace {

// Who picks them up may be somebody else: node_exporter, a web server.
constexpr mode_t kReadableByAll = 0644;

// The umask cannot be asked for without being set. (The program has one thread here.)
mode_t current_umask() {
  mode_t mask = ::umask(077);
  ::umask(mask);
  return mask;
}

Status fill(int file, const std::string& text) {
  VMHOP_TRY(write_all(file, std::as_bytes(std::span(text))));
  if (::fchmod(file, kReadableByAll & ~current_umask()) != 0)
    return Error::from_errno("fchmod", errno);
  return ok_status();
}

Status publish_file(const std::string& path, const std::string& text) {
  std::filesystem::path target(path);
  std::error_code ignored;
  auto found = std::filesystem::status(target, ignored);
  if (std::filesystem::exists(found) && !std::filesystem::is_regular_file(found)) {
    return refusedf("{} is there and is no regular file; without --output it is printed", path);
  }
  std::filesystem::path directory = target.has_parent_path() ? target.parent_path() : ".";
  std::string draft = directory / ("." + target.filename().string() + ".XXXXXX");
  UniqueFd file(::mkostemp(draft.data(), O_CLOEXEC));
  if (!file.valid()) {
    return Error::from_errno(fmt::format("making a file in {}", directory.string()), errno);
  }
  Status done = fill(file.get(), text);
  if (done && ::rename(draft.c_str(), path.c_str()) != 0) {
    done = Error::from_errno("renaming it", errno);
  }
  if (done) return ok_status();
  ::unlink(draft.c_str());
  return done.error().with("writing " + path);
}

}  // namespace

Status print_or_publish(const std::string& output, const std::string& text) {
  if (!output.empty()) return publish_file(output, text);
  fmt::print("{}", text);
  return ok_status();
}

}  // namespace vmhop
