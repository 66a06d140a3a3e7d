#include "rdma/locality.h"

#include <gtest/gtest.h>

#include "tests/backend/memory_image.h"

namespace vmhop::rdma {
namespace {

using Kind = BindPolicy::Kind;

Locality machine(const std::string& description, BindPolicy policy = {}) {
  return testing_support::must(Locality::synthetic(description, policy));
}
constexpr const char* kTwoNodes = "package:2 [numa] core:4 pu:1";
constexpr const char* kOneNode = "package:1 [numa] core:4 pu:1";

TEST(BindPolicy, IsReadAsWritten) {
  EXPECT_EQ(*parse_bind_policy("auto"), (BindPolicy{Kind::kAuto, 0}));
  EXPECT_EQ(*parse_bind_policy("none"), (BindPolicy{Kind::kNone, 0}));
  EXPECT_EQ(*parse_bind_policy("node:3"), (BindPolicy{Kind::kNode, 3}));
  for (const char* wrong : {"", "node", "node:", "node:x", "node:1x", "node:-1", "Auto"})
    EXPECT_FALSE(parse_bind_policy(wrong).ok()) << wrong;
}

TEST(Locality, CountsTheNodes) {
  EXPECT_EQ(machine(kTwoNodes).nodes(), 2U);
  EXPECT_EQ(machine(kOneNode).nodes(), 1U);
}

TEST(Locality, TakesTheNodeOfTheDevice) {
  EXPECT_EQ(machine(kTwoNodes).node_for(1), 1U);
  EXPECT_EQ(machine(kTwoNodes).node_for(std::nullopt), std::nullopt);
}

TEST(Locality, LeavesAMachineWithOneNodeAsItIs) {
  EXPECT_EQ(machine(kOneNode).node_for(0), std::nullopt);
}

TEST(Locality, DoesWhatItWasTold) {
  EXPECT_EQ(machine(kTwoNodes, {Kind::kNone, 0}).node_for(1), std::nullopt);
  EXPECT_EQ(machine(kTwoNodes, {Kind::kNode, 0}).node_for(1), 0U);
}

TEST(Locality, PrefersTheDeviceOnTheChosenNode) {
  Locality two = machine(kTwoNodes, {Kind::kNode, 1});
  EXPECT_LT(two.distance_of(1), two.distance_of(0));
  EXPECT_EQ(two.distance_of(std::nullopt), 0);
  EXPECT_EQ(machine(kTwoNodes, {Kind::kNone, 0}).distance_of(1), 0);
}

TEST(Locality, OfThisMachineIsKnown) {
  EXPECT_GE(testing_support::must(Locality::load({})).nodes(), 1U);
  EXPECT_FALSE(Locality::load({Kind::kNode, 4000}).ok());
}

}  // namespace
}  // namespace vmhop::rdma
