#include "backend/session/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "backend/session/limits.h"
#include "tests/session/message_samples.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using testing_support::MessageSampler;

constexpr size_t kTypes = std::variant_size_v<Message>;
constexpr size_t kHeader = sizeof(MessageHeader);

Result<Message> decode(std::span<const std::byte> frame) {
  if (frame.size() < kHeader) return Error("no header");
  VMHOP_ASSIGN(MessageHeader header, decode_header(frame.first<kHeader>()));
  return decode_body(header, frame.subspan(kHeader));
}

std::string refusal(std::span<const std::byte> frame) {
  auto message = decode(frame);
  return message.ok() ? "accepted" : message.error().message();
}

// The frame of `message` with the byte at `offset` of its body changed to `value`.
std::vector<std::byte> patched(const Message& message, size_t offset, uint8_t value) {
  auto frame = encode(message);
  frame.at(kHeader + offset) = std::byte{value};
  return frame;
}

Hello a_hello() {
  Hello hello;
  hello.vm = "web";
  hello.regions = {{"ram", 1 << 20, 4096}};
  return hello;
}

TEST(Messages, OfEveryTypeComeBackAsTheyWent) {
  MessageSampler sampler(20240601);
  for (size_t type = 0; type < kTypes; ++type) {
    for (int i = 0; i < 50; ++i) {
      Message message = sampler.make(type);
      auto back = decode(encode(message));
      ASSERT_TRUE(back.ok()) << message_name(message) << ": " << back.error().message();
      ASSERT_TRUE(*back == message) << message_name(message);
    }
  }
}

TEST(Messages, CutAnywhereAreRefusedWithTheirName) {
  MessageSampler sampler(7);
  for (size_t type = 0; type < kTypes; ++type) {
    Message message = sampler.make(type);
    auto frame = encode(message);
    for (size_t size = kHeader; size < frame.size(); ++size) {
      // As if the header spoke of the cut body, which a hostile peer's would.
      ASSERT_THAT(refusal(std::span(frame).first(size)), HasSubstr(message_name(message))) << size;
    }
  }
}

TEST(Messages, WithBytesTooManyAreRefused) {
  MessageSampler sampler(8);
  for (size_t type = 0; type < kTypes; ++type) {
    auto frame = encode(sampler.make(type));
    frame.push_back(std::byte{0});
    ASSERT_THAT(refusal(frame), HasSubstr("too many"));
  }
}

TEST(Messages, OfNoiseAreAcceptedOnlyIfTheySayWhatTheyMean) {
  // Any one byte changed: refused, or another message that encodes to just these bytes.
  MessageSampler sampler(9);
  std::mt19937 random(9);
  for (int round = 0; round < 20'000; ++round) {
    auto frame = encode(sampler.make(random() % kTypes));
    frame[random() % frame.size()] = static_cast<std::byte>(random());
    auto message = decode(frame);
    if (!message) continue;
    auto again = encode(*message);
    // The length is the transport's to check: it says where the frame ends.
    std::memcpy(frame.data(), again.data(), sizeof(uint32_t));
    ASSERT_TRUE(again == frame) << message_name(*message);
  }
}

TEST(Messages, OfUnknownTypeAreRefused) {
  for (uint16_t type : {uint16_t{0}, uint16_t{kTypes + 1}, uint16_t{0xffff}}) {
    std::array<std::byte, kHeader> bytes{};
    MessageHeader header{0, type, 0};
    std::memcpy(bytes.data(), &header, sizeof header);
    auto decoded = decode_header(bytes);
    ASSERT_FALSE(decoded.ok());
    EXPECT_EQ(decoded.error().kind(), ErrorKind::kRefused);
    EXPECT_THAT(decoded.error().message(), HasSubstr("unknown type " + std::to_string(type)));
  }
}

TEST(Messages, AboveTheLimitAreRefusedByTheirHeader) {
  std::array<std::byte, kHeader> bytes{};
  MessageHeader header{kMaxMessageBody + 1, 5, 0};
  std::memcpy(bytes.data(), &header, sizeof header);
  EXPECT_THAT(decode_header(bytes).error().message(), HasSubstr("DeviceState"));
  header = {kMaxMessageBody, 5, 1};
  std::memcpy(bytes.data(), &header, sizeof header);
  EXPECT_THAT(decode_header(bytes).error().message(), HasSubstr("reserved"));
}

TEST(Messages, OfAnotherVersionNameBothVersionsAndTheRemedy) {
  for (const Message& message : {Message(a_hello()), Message(Welcome{})}) {
    std::string reason = refusal(patched(message, 0, kProtocolVersion + 1));
    EXPECT_THAT(reason, HasSubstr(fmt::format("version {}", kProtocolVersion + 1)));
    EXPECT_THAT(reason, HasSubstr(fmt::format("version {}", kProtocolVersion)));
    EXPECT_THAT(reason, HasSubstr("Install the same vmhop"));
  }
}

TEST(Messages, WithUnknownValuesNameTheField) {
  EXPECT_THAT(refusal(patched(Welcome{}, 2, 0)), HasSubstr("destination state"));
  EXPECT_THAT(refusal(patched(Welcome{}, 2, 8)), HasSubstr("unknown value 8"));
  EXPECT_THAT(refusal(patched(ReadPoint{}, 0, 3)), HasSubstr("run state"));
  EXPECT_THAT(refusal(patched(Commit{}, 0, 0)), HasSubstr("run state"));
  EXPECT_THAT(refusal(patched(Layout{}, 4, 3)), HasSubstr("layout kind"));
  EXPECT_THAT(refusal(patched(Layout{}, 5, 2)), HasSubstr("last"));
}

// Changes one thing of a valid Hello; what decoding says of it.
template <typename Change>
std::string hello_refusal(Change change) {
  Hello hello = a_hello();
  change(hello);
  return refusal(encode(hello));
}

TEST(Hello, IsCheckedFieldByField) {
  EXPECT_EQ(hello_refusal([](Hello&) {}), "accepted");
  EXPECT_THAT(hello_refusal([](Hello& h) { h.vm = ""; }), HasSubstr("name"));
  EXPECT_THAT(hello_refusal([](Hello& h) { h.vm = "../etc"; }), HasSubstr("slashes"));
  EXPECT_THAT(hello_refusal([](Hello& h) { h.vm = std::string(300, 'x'); }), HasSubstr("VM name"));
  EXPECT_THAT(hello_refusal([](Hello& h) { h.machine = std::string(300, 'x'); }),
              HasSubstr("machine type"));
  EXPECT_THAT(hello_refusal([](Hello& h) { h.fault_lanes = 0; }), HasSubstr("fault lanes"));
  EXPECT_THAT(hello_refusal([](Hello& h) { h.bulk_lanes = 255; }), HasSubstr("bulk lanes"));
  EXPECT_THAT(hello_refusal([](Hello& h) { h.data = DataProtection{3}; }),
              HasSubstr("data protection"));
  EXPECT_THAT(hello_refusal([](Hello& h) { h.regions.resize(kMaxRegions + 1); }),
              HasSubstr("regions"));
}

TEST(Hello, RefusesRegionsThatCannotBe) {
  auto with = [](RegionInfo region) {
    return hello_refusal([&](Hello& h) { h.regions = {std::move(region)}; });
  };
  EXPECT_THAT(with({"", 4096, 4096}), HasSubstr("no id"));
  EXPECT_THAT(with({std::string(256, 'x'), 4096, 4096}), HasSubstr("region id"));
  EXPECT_THAT(with({"ram", 0, 4096}), HasSubstr("region ram"));
  EXPECT_THAT(with({"ram", 4096, 0}), HasSubstr("region ram"));
  EXPECT_THAT(with({"ram", 12288, 12288}), HasSubstr("region ram"));
  EXPECT_THAT(with({"ram", 4097, 4096}), HasSubstr("region ram"));
  EXPECT_THAT(hello_refusal([](Hello& h) { h.regions.push_back(h.regions[0]); }),
              HasSubstr("twice"));
}

TEST(Layout, RefusesExtentsThatAreNoSortedListOfSeparateRanges) {
  auto with = [](std::vector<Extent> extents) {
    return refusal(encode(Layout{.extents = std::move(extents)}));
  };
  constexpr uint64_t kEnd = ~uint64_t{0};
  EXPECT_EQ(with({{0, 4096}, {8192, 4096}}), "accepted");
  EXPECT_EQ(with({{kEnd - 4096, 4096}}), "accepted");
  EXPECT_THAT(with({{kEnd - 4095, 4096}}), HasSubstr("sorted list"));
  EXPECT_THAT(with({{4096, kEnd}}), HasSubstr("sorted list"));
  EXPECT_THAT(with({{0, 0}}), HasSubstr("sorted list"));
  EXPECT_THAT(with({{8192, 4096}, {0, 4096}}), HasSubstr("sorted list"));
  EXPECT_THAT(with({{0, 8192}, {4096, 8192}}), HasSubstr("sorted list"));
}

TEST(Layout, RefusesACountThatItsBytesDoNotHold) {
  // The last four bytes of an empty Layout are the count of extents.
  auto frame = encode(Layout{});
  frame.end()[-4] = std::byte{1};
  EXPECT_THAT(refusal(frame), HasSubstr("in the middle of extents"));
  frame.end()[-1] = std::byte{0x80};
  EXPECT_THAT(refusal(frame), HasSubstr("are allowed"));
}

TEST(Messages, CutReasonsThatAreTooLong) {
  auto back = decode(encode(Refuse{std::string(100'000, 'x')}));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(std::get<Refuse>(*back).reason.size(), kMaxReason);
}

TEST(Messages, CarryDeviceStateUpToTheLimitAndNoFurther) {
  EXPECT_EQ(refusal(encode(DeviceState{std::vector<std::byte>(kMaxStateBytes)})), "accepted");
  EXPECT_THAT(refusal(encode(DeviceState{std::vector<std::byte>(kMaxStateBytes + 1)})),
              HasSubstr("are allowed"));
}

}  // namespace
}  // namespace vmhop
