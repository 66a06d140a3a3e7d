#include "backend/base/json_text.h"

#include <gtest/gtest.h>

#include <string>

namespace vmhop {
namespace {

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') +
         std::string(static_cast<size_t>(depth), ']');
}

TEST(JsonText, IsReadAsItIs) {
  EXPECT_EQ(parse_json(R"({"a":[1,{"b":"c"}],"d":null})"),
            (nlohmann::json{{"a", {1, {{"b", "c"}}}}, {"d", nullptr}}));
}

TEST(JsonText, IsDiscardedWhereItIsNone) {
  for (const char* text : {"", "{", "[1,]", "{}{}", "\"\xff\""})
    EXPECT_TRUE(parse_json(text).is_discarded()) << text;
}

TEST(JsonText, NestsNoDeeperThanTheStackThatItTakes) {
  auto deepest = parse_json(nested(kMaxJsonDepth));
  ASSERT_TRUE(deepest.is_array());
  EXPECT_EQ(nlohmann::json(deepest).dump(), nested(kMaxJsonDepth));
  EXPECT_TRUE(parse_json(nested(kMaxJsonDepth + 1)).is_discarded());
  EXPECT_TRUE(parse_json(nested(1'000'000)).is_discarded());
  EXPECT_TRUE(parse_json(R"({"a":)" + nested(1'000'000) + "}").is_discarded());
}

}  // namespace
}  // namespace vmhop
