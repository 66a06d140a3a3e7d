#include "bench/plot.h"

#include <array>
#include <filesystem>
#include <fstream>

#include "cli/child_process.h"

namespace vmhop::bench {
namespace {

// On white, since a picture without a background is not legible on a dark page.
constexpr const char* kSvg =
    "svg size 900,420 noenhanced font 'DejaVu Sans,15' background '#ffffff'";
constexpr const char* kPng =
    "pngcairo size 900,420 noenhanced font 'DejaVu Sans,11' background '#ffffff'";

// In a gnuplot string of single quotes, where nothing else is special.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (char c : text) {
    if (c == '\'') result += '\'';
    result += c;
  }
  return result + "'";
}

std::string axis_lines(char name, const Axis& axis) {
  auto bound = [](const std::optional<double>& value) {
    return value ? fmt::format("{}", *value) : std::string("*");
  };
  std::string lines = fmt::format("set {0}label {1}\nset {0}range [{2}:{3}]\n", name,
                                  quoted(axis.label), bound(axis.least), bound(axis.most));
  if (axis.logarithmic) lines += fmt::format("set logscale {}\n", name);
  return lines;
}

// The last curve first, so that the first is on top; the key is told to invert this again.
std::string plot_line(const Picture& picture) {
  std::string line;
  for (size_t n = picture.curves.size(); n-- > 0;) {
    const Curve& curve = picture.curves[n];
    line +=
        fmt::format("{}{} index {} using 1:2 with {} title {}", line.empty() ? "plot " : ", \\\n  ",
                    quoted(picture.name + ".tsv"), n, curve.style, quoted(curve.title));
  }
  return line + "\n";
}

Status write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  file << text << std::flush;
  if (file) return ok_status();
  return Error("cannot write " + path);
}

Status run_gnuplot(const std::vector<std::string>& arguments) {
  constexpr std::chrono::seconds kLongEnough{60};
  ChildSpec spec;
  spec.program = "gnuplot";
  spec.argv = {"gnuplot"};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  VMHOP_ASSIGN(auto gnuplot, ChildProcess::spawn(spec));
  auto ended = gnuplot->wait(kLongEnough);
  if (!ended) {
    gnuplot->kill_and_reap();
    return ended.error().with("gnuplot");
  }
  return ended->clean() ? ok_status() : Error("gnuplot " + ended->describe());
}

}  // namespace

Status check_gnuplot() {
  auto found = run_gnuplot({"-e", "exit"});
  if (found) return found;
  return found.error().with("--plot needs gnuplot (Debian: gnuplot-nox; ci/install installs it)");
}

Status draw(const Picture& picture, const std::string& directory) {
  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  if (failed) return errorf("creating {}: {}", directory, failed.message());
  std::string base = directory + "/" + picture.name;
  VMHOP_TRY(write_text(base + ".tsv", table_of(picture)));
  VMHOP_TRY(write_text(base + ".gnuplot", script_of(picture)));
  // The script names its files without a directory, so that all of them can be moved together.
  return run_gnuplot({"-e", "cd " + quoted(directory), picture.name + ".gnuplot"});
}

std::string table_of(const Picture& picture) {
  std::string table;
  for (const Curve& curve : picture.curves) {
    if (!table.empty()) table += "\n\n";
    table += fmt::format("# {}\n# {}\t{}\n", curve.title, picture.x.label, picture.y.label);
    for (const auto& [x, y] : curve.points)
      table += fmt::format("{:.6g}\t{:.6g}\n", x, y);
  }
  return table;
}

std::string script_of(const Picture& picture) {
  std::string script = fmt::format("set title {} font ',17'\n", quoted(picture.title));
  script += axis_lines('x', picture.x) + axis_lines('y', picture.y);
  script +=
      "set grid linetype 1 linecolor '#dddddd'\n"
      "set border 3\n"
      "set tics nomirror\n"
      "set key outside right top vertical Left reverse invert samplen 2\n";
  if (picture.mark) {
    script += fmt::format(
        "set arrow from {0}, graph 0 to {0}, graph 1 nohead dashtype 2 linecolor '#888888'\n",
        *picture.mark);
  }
  for (const auto& [terminal, suffix] : {std::pair{kSvg, ".svg"}, std::pair{kPng, ".png"}}) {
    script +=
        fmt::format("set terminal {}\nset output {}\n", terminal, quoted(picture.name + suffix));
    script += plot_line(picture) + "unset output\n";
  }
  return script;
}

std::string curve_style(size_t n) {
  // Okabe and Ito's colours.
  static constexpr std::array<const char*, 8> kColours = {
      "#0072B2", "#999999", "#E69F00", "#D55E00", "#56B4E9", "#000000", "#009E73", "#CC79A7"};
  return fmt::format("lines linewidth {} linecolor '{}'", n == 0 ? 3 : 1.5,
                     kColours[n % kColours.size()]);
}

}  // namespace vmhop::bench
