// Throughput around the switch, all modes of one workload over one link beside each other.
#pragma once

#include <optional>
#include <vector>

#include "bench/figures.h"
#include "bench/plot.h"

namespace vmhop::bench {

// The round to draw: of those with a series the one whose lost work is in the middle (the better
// one of two in the middle). Null when there is none.
const Figures* middle_round(const Cell& cell);

// Of cells that differ in the mode only. Empty when none of them has anything to draw.
std::optional<Picture> throughput_picture(const std::vector<Cell>& modes);

}  // namespace vmhop::bench
