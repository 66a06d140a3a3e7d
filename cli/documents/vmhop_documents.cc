// Writes what is installed beside vmhop: man pages, completions, and a configuration file to start
// from. `vmhop-documents DIRECTORY`, at build time.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "cli/config_file.h"
#include "cli/documents/documents.h"
#include "cli/options.h"

namespace vmhop {
namespace {

namespace fs = std::filesystem;

// As on a host where root has set nothing, whoever builds it.
HostDefaults untouched_host() {
  HostDefaults defaults;
  defaults.key_path = "/etc/vmhop/key";
  return defaults;
}

std::vector<Document> all_documents() {
  ProgramText program;
  look_at_command_line(untouched_host(), [&](const CLI::App& app) { program = read_program(app); });
  CLI::App file{"", "vmhop.conf"};
  HostDefaults defaults = untouched_host();
  add_config_options(file, defaults);
  CommandText config = read_command(file);

  std::vector<Document> documents = man_pages(program, config, VMHOP_VERSION);
  documents.push_back(bash_completion(program));
  documents.push_back(zsh_completion(program));
  documents.push_back(config_sample(config));
  return documents;
}

Status write(const fs::path& path, const std::string& text) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  std::ofstream file(path, std::ios::trunc);
  file << text;
  file.close();
  return file ? ok_status() : Status(errorf("{} cannot be written", path.string()));
}

int documents_main(int argc, char** argv) {
  std::string directory;
  CLI::App app{"Writes vmhop's man pages, completions and sample configuration", "vmhop-documents"};
  app.add_option("DIRECTORY", directory, "Where to; what is there is overwritten")->required();
  CLI11_PARSE(app, argc, argv);
  for (const Document& document : all_documents()) {
    if (auto written = write(fs::path(directory) / document.path, document.text); !written) {
      fmt::print(stderr, "vmhop-documents: {}\n", written.error().message());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace vmhop

int main(int argc, char** argv) {
  return vmhop::documents_main(argc, argv);
}
