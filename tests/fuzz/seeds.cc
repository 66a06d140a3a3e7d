// Writes the binary seeds of corpus/, with the encoders that vmhop has: fuzz_seeds
// tests/fuzz/corpus. To be run again where a wire format changes. The seeds that are text were
// written by hand, and what else is there was found by fuzzing.
#include <linux/userfaultfd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "backend/session/plain_lane.h"
#include "backend/tcp/wire.h"
#include "qemu-memory-backend/front_handshake.h"
#include "tests/session/message_samples.h"

using namespace vmhop;

namespace {

std::filesystem::path corpus;

using Bytes = std::vector<std::byte>;

template <typename T>
void append(Bytes& to, const T& value) {
  auto bytes = std::as_bytes(std::span(&value, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

void append_bytes(Bytes& to, std::initializer_list<int> bytes) {
  for (int byte : bytes)
    to.push_back(static_cast<std::byte>(byte));
}

void write(const char* target, const std::string& name, const Bytes& bytes) {
  std::filesystem::create_directories(corpus / target);
  std::ofstream file(corpus / target / name, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

void write_messages() {
  testing_support::MessageSampler sampler(1);
  Bytes talk{std::byte{6}};
  for (size_t type = 0; type < std::variant_size_v<Message>; ++type) {
    Message message = sampler.make(type);
    if (auto* state = std::get_if<DeviceState>(&message)) state->bytes.resize(100);
    auto frame = encode(message);
    write("messages", message_name(message), frame);
    if (frame.size() < 300) talk.insert(talk.end(), frame.begin(), frame.end());
  }
  write("message_stream", "talk", talk);
  talk.resize(talk.size() - 3);
  write("message_stream", "cut", talk);
  Bytes too_long{std::byte{200}};
  append(too_long, MessageHeader{kMaxMessageBody + 1, 5, 0});
  write("message_stream", "too_long", too_long);
}

void write_requests() {
  Bytes talk{std::byte{3}, std::byte{1}};
  append(talk, tcp::RequestHeader{tcp::kRequestMagic, 1});
  append(talk, tcp::RequestRange{0, 6 * 4096, 0});
  append(talk, tcp::RequestHeader{tcp::kRequestMagic, 3});
  append(talk, tcp::RequestRange{1, 2 * 16384, 16384});
  append(talk, tcp::RequestRange{0, 4096, 5 * 4096});
  append(talk, tcp::RequestRange{1, 16384, 0});
  write("page_server", "requests", talk);
  append(talk, tcp::RequestHeader{tcp::kRequestMagic, 1});
  append(talk, tcp::RequestRange{0, 2 * 4096, 5 * 4096});
  write("page_server", "beyond_the_end", talk);
}

// Scripts of page_source_fuzz.cc: 0 posts, 1 says bytes, 2 says many of one byte, 3 replies well.
void write_replies() {
  for (int region = 0; region < 3; ++region) {
    Bytes script{std::byte{9}};
    append_bytes(script, {0x34, region, 0, 7, region, 2, 5, 3, 0x55, 1, 0x13, 0xf0, 9});
    append_bytes(script, {0x10, region, 3, 0, 3, 0xff, 4});
    write("page_source", fmt::format("good_{}", region), script);
  }
  Bytes script{std::byte{255}};
  append_bytes(script, {0x70, 0, 0, 2, 0x71, 24});
  append(script, tcp::ReplyHeader{tcp::kReplyMagic, 2});
  append(script, tcp::ReplyRun{64, static_cast<uint16_t>(tcp::RunKind::kData), 0});
  append(script, tcp::ReplyRun{128, static_cast<uint16_t>(tcp::RunKind::kZero), 0});
  append_bytes(script, {0x72, 64, 0, 7});
  write("page_source", "by_hand", script);
}

void write_regions() {
  vmhop_front_region region{};
  region.magic = VMHOP_FRONT_REGION_MAGIC;
  region.version = VMHOP_FRONT_VERSION;
  region.kind = VMHOP_FRONT_LAZY_REGION;
  region.features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
  region.range_ioctls =
      (1ULL << _UFFDIO_WAKE) | (1ULL << _UFFDIO_CONTINUE) | (1ULL << _UFFDIO_ZEROPAGE);
  region.host_address = 0x7f0000000000;
  region.size = 1 << 20;
  region.page_size = 4096;
  std::strncpy(region.id, "ram0", sizeof region.id - 1);
  for (char descriptors = '0'; descriptors < '8'; ++descriptors) {
    Bytes message{static_cast<std::byte>(descriptors)};
    append(message, region);
    write("front_listener", fmt::format("lazy_{}", descriptors), message);
  }
  region.kind = VMHOP_FRONT_WATCHED_REGION;
  region.flags = VMHOP_FRONT_REGION_AGAIN;
  Bytes message{std::byte{'0'}};
  append(message, region);
  write("front_listener", "watched_again", message);
  message.push_back(std::byte{0});
  write("front_listener", "longer", message);
}

void write_identities() {
  auto write_text = [](const char* name, std::string_view text) {
    auto bytes = std::as_bytes(std::span(text));
    write("identity", name, {bytes.begin(), bytes.end()});
  };
  LaneId lane{{1, 2, 3, 255}, LaneKind::kBulk, 11, 0x123456789abcdef0};
  write_text("session", "i" + to_identity(SessionId{"web"}));
  write_text("lane", "i" + to_identity(lane));
  write_text("name", "ahost.example:4000");
  write_text("address", "a[fe80::1%eth0]:4000");
  write_text("everywhere", "a:4000");
  Bytes preface{std::byte{'l'}};
  append(preface, make_lane_preface(lane, LaneNonce{}));
  write("identity", "preface", preface);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "fuzz_seeds DIRECTORY\n");
    return 2;
  }
  corpus = argv[1];
  write_messages();
  write_requests();
  write_replies();
  write_regions();
  write_identities();
  return 0;
}
