// Pictures of measurements, drawn by gnuplot: NAME.svg and NAME.png, and beside them NAME.tsv and
// NAME.gnuplot to draw them again from (`cd DIR && gnuplot NAME.gnuplot`).
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/base/result.h"

namespace vmhop::bench {

struct Curve {
  std::string title;
  std::string style;  // gnuplot's, after "with": "lines linewidth 2 linecolor '#0072B2'"
  std::vector<std::pair<double, double>> points;
};

struct Axis {
  std::string label;
  std::optional<double> least;  // or wherever the data begins
  std::optional<double> most;
  bool logarithmic = false;
};

struct Picture {
  std::string name;  // of its files
  std::string title;
  Axis x;
  Axis y;
  std::optional<double> mark;  // a vertical line
  std::vector<Curve> curves;
};

// Whether there is a gnuplot: to be asked before something is measured that cannot be drawn then.
Status check_gnuplot();

// Into a directory, which is made if need be.
Status draw(const Picture& picture, const std::string& directory);

// What draw() writes: a block for each curve, two empty lines between them, which is how gnuplot
// tells them apart.
std::string table_of(const Picture& picture);
std::string script_of(const Picture& picture);

// How the curve number `n` of a picture looks: in colours that people who see fewer of them can
// tell apart. The first, which is what the picture is about, is the strongest.
std::string curve_style(size_t n);

}  // namespace vmhop::bench
