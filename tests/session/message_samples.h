// Random but valid messages, from a seed.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <type_traits>
#include <utility>

#include "backend/session/limits.h"
#include "backend/session/messages.h"

namespace vmhop::testing_support {

class MessageSampler {
 public:
  explicit MessageSampler(uint64_t seed) : random_(seed) {}

  // A message of the type with this index in the variant Message.
  Message make(size_t index) { return make_one(index, kAll); }

 private:
  static constexpr auto kAll = std::make_index_sequence<std::variant_size_v<Message>>();

  template <size_t... kIndexes>
  Message make_one(size_t index, std::index_sequence<kIndexes...> /*indexes*/) {
    Message message;
    ((kIndexes == index ? void(message = filled<std::variant_alternative_t<kIndexes, Message>>())
                        : void()),
     ...);
    return message;
  }

  template <typename T>
  T filled() {
    T message{};
    fill(message);
    return message;
  }

  uint64_t below(uint64_t limit) { return random_() % limit; }
  template <typename E>
  E one_of(E first, E last) {
    auto low = static_cast<uint64_t>(first);
    return static_cast<E>(low + below(static_cast<uint64_t>(last) - low + 1));
  }
  std::string text(size_t smallest, size_t largest) {
    std::string made(smallest + below(largest - smallest + 1), ' ');
    for (char& c : made)
      c = static_cast<char>('0' + below(75));
    for (char& c : made)
      if (c == '/') c = '-';
    return made;
  }
  std::vector<std::byte> bytes(size_t largest) {
    std::vector<std::byte> made(below(largest + 1));
    for (std::byte& byte : made)
      byte = static_cast<std::byte>(random_());
    return made;
  }

  void fill(Hello& hello) {
    for (uint8_t& byte : hello.relocation)
      byte = static_cast<uint8_t>(random_());
    hello.vm = text(1, 128);
    hello.machine = text(0, kMaxName);
    hello.qemu_version = text(0, 20);
    hello.data = one_of(DataProtection::kEncrypted, DataProtection::kPlain);
    hello.fault_lanes = static_cast<uint8_t>(1 + below(kMaxFaultLanes));
    hello.bulk_lanes = static_cast<uint8_t>(1 + below(kMaxBulkLanes));
    hello.lane_generation = random_();
    hello.resumed = below(2) == 1;
    hello.rdma = below(2) == 1;
    hello.verify = below(2) == 1;
    hello.bandwidth = random_();
    for (uint64_t i = below(5); i > 0; --i) {
      uint32_t page_size = 1U << (12 + below(10));
      hello.regions.push_back(
          {std::to_string(i) + text(0, 200), page_size * (1 + below(1 << 20)), page_size});
    }
  }
  void fill(Layout& layout) {
    layout.region = static_cast<uint32_t>(random_());
    layout.kind = one_of(LayoutKind::kPreliminary, LayoutKind::kFinal);
    layout.last = below(2) == 1;
    uint64_t offset = below(1 << 20);
    for (uint64_t i = below(50); i > 0; --i) {
      Extent extent{offset, 1 + below(1 << 30)};
      layout.extents.push_back(extent);
      offset = extent.end() + 1 + below(1 << 30);
    }
  }
  void fill(ReadPoint& point) { point.before_stop = one_of(RunState::kRunning, RunState::kPaused); }
  void fill(Commit& commit) { commit.before_stop = one_of(RunState::kRunning, RunState::kPaused); }
  void fill(DeviceState& state) { state.bytes = bytes(5000); }
  void fill(ReturnPath& path) { path.bytes = bytes(100); }
  void fill(Welcome& welcome) {
    welcome.state = one_of(DestinationState::kWaiting, DestinationState::kReturned);
    welcome.rdma = below(2) == 1;
    welcome.rdma_reason = text(0, 200);
  }
  void fill(RdmaToken& token) {
    for (uint8_t& byte : token)
      byte = static_cast<uint8_t>(random_());
  }
  void fill(RdmaOffer& offer) {
    offer.port = static_cast<uint16_t>(random_());
    for (uint64_t i = below(4); i > 0; --i)
      offer.addresses.push_back(text(1, kMaxRdmaAddress));
    for (uint64_t i = below(5); i > 0; --i) {
      RdmaTicket ticket;
      fill(ticket.request);
      fill(ticket.reply);
      offer.tickets.push_back(ticket);
    }
  }
  void fill(RdmaAnswer& answer) {
    answer.connected = below(2) == 1;
    answer.detail = text(0, 300);
  }
  void fill(MemoryKeys& keys) {
    keys.region = static_cast<uint32_t>(random_());
    for (uint64_t i = below(50); i > 0; --i)
      keys.ranges.push_back({random_(), random_(), random_(), static_cast<uint32_t>(random_())});
  }
  void fill(Checksums& checksums) {
    checksums.region = static_cast<uint32_t>(random_());
    checksums.offset = random_();
    checksums.last = below(2) == 1;
    for (uint64_t i = below(500); i > 0; --i)
      checksums.pages.push_back(static_cast<uint32_t>(random_()));
  }
  void fill(Running& running) { running.after_commit_ns = random_(); }
  void fill(Drained& drained) { drained.after_running_ns = random_(); }
  void fill(Progress& progress) {
    progress = {random_(), random_(), random_(), random_(), random_(), random_(),
                random_(), random_(), random_(), random_(), random_(), random_()};
  }
  template <typename T>
  void fill(T& message) {
    if constexpr (requires { message.reason; }) message.reason = text(0, 300);
    if constexpr (requires { message.cookie; }) message.cookie = random_();
  }

  std::mt19937_64 random_;
};

}  // namespace vmhop::testing_support
