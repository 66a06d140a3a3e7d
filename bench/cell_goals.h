// Which relocations say something about which rows of the goals.
#pragma once

#include <vector>

#include "bench/figures.h"
#include "bench/goals.h"

namespace vmhop::bench {

// Rows 1, 2 and 8 to 13, each wherever the cells have both sides of it; by rows.
std::vector<Comparison> compare_cells(const std::vector<Cell>& cells);

}  // namespace vmhop::bench
