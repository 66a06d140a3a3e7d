#include "bench/throughput_picture.h"

#include <fmt/format.h>

#include <algorithm>

namespace vmhop::bench {
namespace {

// So much is shown before the switch, and so much at least, and after the last mode recovered.
constexpr double kBefore = 2;
constexpr double kLeastAfter = 3;
constexpr double kAfterRecovery = 1;

Curve curve_of(const Cell& cell, const Figures& round, size_t number) {
  Curve curve{cell.mode, curve_style(number), {}};
  if (!round.blackout_ms) curve.title += " (given up)";
  for (size_t n = 0; n < round.throughput.values.size(); ++n)
    curve.points.emplace_back(round.throughput.middle_s(n), round.throughput.values[n]);
  return curve;
}

}  // namespace

const Figures* middle_round(const Cell& cell) {
  std::vector<const Figures*> rounds;
  for (const Figures& round : cell.rounds) {
    if (round.lost_s && !round.throughput.values.empty()) rounds.push_back(&round);
  }
  if (rounds.empty()) return nullptr;
  std::stable_sort(rounds.begin(), rounds.end(),
                   [](auto* one, auto* other) { return *one->lost_s < *other->lost_s; });
  return rounds[(rounds.size() - 1) / 2];
}

std::optional<Picture> throughput_picture(const std::vector<Cell>& modes) {
  Picture picture;
  double after = kLeastAfter;
  for (const Cell& cell : modes) {
    const Figures* round = middle_round(cell);
    if (round == nullptr) continue;
    picture.curves.push_back(curve_of(cell, *round, picture.curves.size()));
    after = std::max(after, round->recovered_s.value_or(0) + kAfterRecovery);
  }
  if (picture.curves.empty()) return std::nullopt;
  const Cell& any = modes.front();
  picture.name = fmt::format("throughput-{}-{}", any.workload, any.link);
  picture.title = fmt::format("Throughput while a VM of {} MiB moves ({}, link: {})", any.ram_mib,
                              any.workload, any.link);
  picture.x = {"seconds after the VM resumed at the destination", -kBefore, after};
  picture.y = {"MiB/s", 0.0, std::nullopt};
  picture.mark = 0;
  return picture;
}

}  // namespace vmhop::bench
