#include "backend/session/identity.h"

#include <gtest/gtest.h>

namespace vmhop {
namespace {

LaneId a_lane() {
  return {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}, LaneKind::kBulk, 17, 0xabcdef};
}

TEST(Identity, IsReadBack) {
  EXPECT_EQ(std::get<SessionId>(parse_identity("vmhop1/session/source/web-1").value()).vm, "web-1");
  EXPECT_EQ(to_identity(a_lane()),
            "vmhop1/lane/000102030405060708090a0b0c0d0eff/bulk/11/0000000000abcdef");
  EXPECT_EQ(std::get<LaneId>(parse_identity(to_identity(a_lane())).value()), a_lane());
}

TEST(Identity, HasOneSpellingOnly) {
  const std::string good = to_identity(a_lane());
  for (size_t i = 0; i < good.size(); ++i) {
    EXPECT_FALSE(parse_identity(good.substr(0, i)).ok()) << i;
    std::string wrong = good;
    wrong[i] = wrong[i] == 'G' ? 'H' : 'G';
    EXPECT_FALSE(parse_identity(wrong).ok()) << wrong;
  }
  for (const std::string& wrong :
       {good + "0", good + "/", std::string("vmhop1/lane//bulk/11/0"), std::string(),
        std::string("vmhop1/lane/000102030405060708090A0B0C0D0EFF/bulk/11/0000000000abcdef"),
        std::string("vmhop1/lane/000102030405060708090a0b0c0d0eff/bulk/-1/0000000000abcdef"),
        std::string("vmhop1/session/destination/web"), std::string("vmhop2/session/source/web")}) {
    EXPECT_FALSE(parse_identity(wrong).ok()) << wrong;
  }
}

TEST(Identity, TakesOnlyNamesThatAVmMayHave) {
  EXPECT_TRUE(check_vm_name(std::string(128, 'x')).ok());
  EXPECT_TRUE(check_vm_name("büro_1.test").ok());
  for (const std::string& name : {std::string(), std::string(129, 'x'), std::string("a/b"),
                                  std::string("a b"), std::string("a\n"), std::string("a\0b", 3)}) {
    EXPECT_FALSE(check_vm_name(name).ok()) << name;
    EXPECT_FALSE(parse_identity(to_identity(SessionId{name})).ok()) << name;
  }
}

TEST(Identity, HasAKeyOfItsOwn) {
  auto key = Secret::random().value();
  EXPECT_FALSE(session_psk(key, {"a"}).value() == session_psk(key, {"b"}).value());
  LaneId other = a_lane();
  ++other.generation;
  EXPECT_FALSE(lane_psk(key, a_lane()).value() == lane_psk(key, other).value());
}

TEST(LaneIds, AreTheLanesOfOneSession) {
  auto ids = make_lane_ids(a_lane().relocation, 1, 2, 5);
  ASSERT_EQ(ids.size(), 3U);
  EXPECT_EQ(ids[0].kind, LaneKind::kFault);
  EXPECT_EQ(ids[2], (LaneId{a_lane().relocation, LaneKind::kBulk, 1, 5}));
}

}  // namespace
}  // namespace vmhop
