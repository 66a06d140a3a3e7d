// What relocations say about the rows of the goals.
#include "bench/cell_goals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmhop::bench {
namespace {

using Value = std::optional<double> Figures::*;

Cell cell(const char* mode, uint64_t ram_mib, Value value, const std::vector<double>& rounds) {
  Cell cell{"writer", "unlimited", mode, ram_mib, {}};
  for (double measured : rounds) {
    Figures figures;
    figures.*value = measured;
    cell.rounds.push_back(figures);
  }
  return cell;
}

Cell blackouts(const char* mode, uint64_t ram_mib, const std::vector<double>& rounds) {
  return cell(mode, ram_mib, &Figures::blackout_ms, rounds);
}

TEST(Median, IsTheMiddleOrBetweenTheTwo) {
  EXPECT_EQ(median_of({3, 1, 2}), 2);
  EXPECT_EQ(median_of({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(median_of({}), std::nullopt);
}

TEST(CellGoals, MedianMeetsTheBestOfQemusMedians) {
  auto found =
      compare_cells({blackouts("vmhop", 1024, {9, 8, 50}), blackouts("precopy", 1024, {100}),
                     blackouts("postcopy", 1024, {12, 4, 20}), blackouts("preempt", 1024, {13})});
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].row, 1);
  EXPECT_EQ(found[0].ours, 9);
  EXPECT_EQ(found[0].theirs, 12);
}

TEST(CellGoals, OnlyGuestsOfTheSameSizeAreCompared) {
  auto found = compare_cells({blackouts("vmhop", 1024, {9}), blackouts("postcopy", 8192, {12})});
  EXPECT_TRUE(found.empty());
}

TEST(CellGoals, LargeGuestIsComparedToASmallOne) {
  auto found = compare_cells({blackouts("vmhop", 8192, {11}), blackouts("vmhop", 512, {10})});
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].row, 2);
  EXPECT_EQ(found[0].ours, 11);
  EXPECT_EQ(found[0].theirs, 10);
  EXPECT_EQ(found[0].ram_mib, 8192);
}

TEST(CellGoals, WhatFailedEachTimeIsNotCompared) {
  auto found = compare_cells({blackouts("vmhop", 1024, {9}), blackouts("postcopy", 1024, {})});
  EXPECT_TRUE(found.empty());
}

TEST(CellGoals, LostWorkIsNotComparedToPrecopy) {
  auto found = compare_cells(
      {cell("vmhop", 1024, &Figures::lost_s, {1}), cell("precopy", 1024, &Figures::lost_s, {0.1})});
  EXPECT_TRUE(found.empty());
}

TEST(CellGoals, MemoryNeedsNobodyBesideIt) {
  Cell memory = cell("vmhop", 1024, &Figures::overhead_mib, {3});
  memory.rounds[0].page_tables_mib = 4;
  auto found = compare_cells({memory});
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].row, 13);
  EXPECT_EQ(found[0].page_tables_mib, 4);
}

TEST(CellGoals, AreInTheOrderOfTheirRows) {
  Cell ours = blackouts("vmhop", 1024, {9});
  ours.rounds[0].overhead_mib = 3;
  ours.rounds[0].total_s = 2;
  Cell theirs = blackouts("preempt", 1024, {9});
  theirs.rounds[0].total_s = 2;
  auto found = compare_cells({ours, theirs});
  ASSERT_EQ(found.size(), 3);
  EXPECT_EQ(found[0].row, 1);
  EXPECT_EQ(found[1].row, 8);
  EXPECT_EQ(found[2].row, 13);
}

}  // namespace
}  // namespace vmhop::bench
