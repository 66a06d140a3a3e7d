#include "bench/latency_picture.h"

#include <algorithm>
#include <cmath>

namespace vmhop::bench {
namespace {

// Points for each factor of ten of the share: no more can be seen.
constexpr double kPointsPerDecade = 40;

std::vector<std::pair<double, double>> tail_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  std::vector<std::pair<double, double>> points;
  const double step = std::pow(10, -1 / kPointsPerDecade);
  auto count = static_cast<double>(samples.size());
  for (size_t longer = samples.empty() ? 0 : samples.size() - 1; longer > 0;) {
    auto share = static_cast<double>(longer);
    points.emplace_back(samples[samples.size() - 1 - longer], share / count);
    longer = std::min(longer - 1, static_cast<size_t>(share * step));
  }
  return points;
}

}  // namespace

Picture latency_picture(const std::vector<Latencies>& all) {
  Picture picture;
  picture.name = "fault-latency";
  picture.title = "From the guest's touch of a page until it goes on";
  picture.x = {"µs", std::nullopt, std::nullopt, true};
  picture.y = {"share of faults that took longer", std::nullopt, 1.0, true};
  for (const Latencies& one : all)
    picture.curves.push_back(
        {one.what, curve_style(picture.curves.size()), tail_of(one.samples_us)});
  return picture;
}

}  // namespace vmhop::bench
