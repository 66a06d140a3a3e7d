// Who a connection claims to be, before it has proved anything; and addresses as people write them.
// The first byte of an input says which: i an identity, l a lane's preface, a an address.
#include "backend/session/identity.h"

#include <cstring>

#include "backend/session/plain_lane.h"
#include "backend/session/tcp.h"
#include "tests/fuzz/fuzz.h"

using namespace vmhop;
using fuzz::Input;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  uint8_t kind = input.byte();
  std::string_view text = input.text();
  if (kind == 'i') {
    auto id = parse_identity(text);
    if (!id) return 0;
    std::string again = std::visit([](const auto& parsed) { return to_identity(parsed); }, *id);
    require(again == text, "one text stands for an identity");
  } else if (kind == 'l') {
    LanePreface preface{};
    if (text.size() < sizeof preface) return 0;
    std::memcpy(&preface, text.data(), sizeof preface);
    auto id = parse_lane_preface(preface);
    if (!id) return 0;
    LanePreface again = make_lane_preface(*id, preface.nonce);
    require(std::memcmp(&again, &preface, sizeof preface) == 0, "one preface stands for a lane");
  } else {
    auto place = parse_host_port(text);
    if (!place) return 0;
    auto again = parse_host_port(place->to_string());
    require(again && *again == *place, "an address that is shown can be read");
  }
  return 0;
}
