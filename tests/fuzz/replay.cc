// Stands in for libFuzzer where there is none: calls the target with each file it is given, and
// with those in each folder. Which one it was is said before, since a crash leaves no time after.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

size_t replay(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path))
      files += replay(entry.path());
    return files;
  }
  fmt::print("{}\n", path.native());
  std::fflush(stdout);
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  for (int i = 1; i < argc; ++i)
    files += replay(argv[i]);
  fmt::print("{} inputs\n", files);
  return files == 0 ? 1 : 0;
}
