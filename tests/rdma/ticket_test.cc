#include "rdma/ticket.h"

#include <gtest/gtest.h>

#include <array>

namespace vmhop::rdma {
namespace {

RdmaToken some_token() {
  RdmaToken token{};
  for (size_t i = 0; i < token.size(); ++i)
    token[i] = static_cast<uint8_t>(i * 7);
  return token;
}

TEST(Ticket, ComesBackAsItWentOut) {
  TicketData ticket = make_ticket(3, some_token());
  auto read = read_ticket(&ticket, sizeof ticket);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->connection, 3);
  EXPECT_TRUE(same_token(*read, some_token()));
}

TEST(Ticket, MayBePaddedAsTheKernelDoes) {
  std::array<char, 56> padded{};
  TicketData ticket = make_ticket(3, some_token());
  std::memcpy(padded.data(), &ticket, sizeof ticket);
  EXPECT_TRUE(read_ticket(padded.data(), padded.size()).has_value());
}

TEST(Ticket, IsNoneWhenItIsShortOrMissing) {
  TicketData ticket = make_ticket(0, some_token());
  EXPECT_FALSE(read_ticket(&ticket, sizeof ticket - 1).has_value());
  EXPECT_FALSE(read_ticket(nullptr, 0).has_value());
}

TEST(Ticket, IsNoneWithAnotherMagicNumberOrVersion) {
  TicketData ticket = make_ticket(0, some_token());
  ticket.version = kTicketVersion + 1;
  EXPECT_FALSE(read_ticket(&ticket, sizeof ticket).has_value());
  ticket = make_ticket(0, some_token());
  ticket.magic ^= 1;
  EXPECT_FALSE(read_ticket(&ticket, sizeof ticket).has_value());
}

TEST(Ticket, DiffersInEveryBitOfItsToken) {
  TicketData ticket = make_ticket(0, some_token());
  for (size_t byte = 0; byte < some_token().size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      RdmaToken other = some_token();
      other[byte] = static_cast<uint8_t>(other[byte] ^ (1 << bit));
      EXPECT_FALSE(same_token(ticket, other));
    }
  }
}

}  // namespace
}  // namespace vmhop::rdma
