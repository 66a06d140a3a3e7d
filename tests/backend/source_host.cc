#include "tests/backend/source_host.h"

#include <sys/socket.h>

#include <future>

#include "backend/session/tls.h"
#include "backend/tcp/tcp_page_source.h"

namespace vmhop::testing_support {
namespace {

constexpr int kPatienceMs = 20'000;

std::vector<RamRegion> export_all(const std::vector<MemoryImage>& images) {
  std::vector<RamRegion> regions;
  for (const MemoryImage& image : images)
    regions.push_back(image.exported());
  return regions;
}

struct Streams {
  std::unique_ptr<ByteStream> source;
  std::unique_ptr<ByteStream> destination;
};

Streams connect_streams(SourceHost::Wire wire) {
  auto [left, right] = must(socket_pair(SOCK_STREAM));
  if (wire == SourceHost::Wire::kPlain) {
    return {must(make_plain_stream(std::move(left))), must(make_plain_stream(std::move(right)))};
  }
  Secret psk = must(Secret::random());
  auto accepted = std::async(std::launch::async, [&psk, socket = std::move(right)]() mutable {
    auto lookup = [&psk](std::string_view) { return std::optional(psk.clone()); };
    return must(accept_tls(std::move(socket), lookup, kPatienceMs));
  });
  auto dialed = must(connect_tls(std::move(left), "vmhop1/session/source/test", psk, kPatienceMs));
  return {std::move(dialed), accepted.get()};
}

}  // namespace

SourceHost::SourceHost(const std::vector<MemoryImage>& images, Wire wire)
    : wire_(wire), regions_(export_all(images)), store_(regions_) {
  auto layout = std::make_shared<SourceLayout>();
  for (const RamRegion& region : regions_)
    layout->extents.push_back(must(region.populated_extents()));
  store_.set_layout(std::move(layout));
}

void SourceHost::serve(std::unique_ptr<ByteStream> stream) {
  lanes_.push_back(must(PageServer::start(std::move(stream), store_, PageServer::Pace::kBulk,
                                          counters_, [](const Error&) {})));
}

std::unique_ptr<PageSource> SourceHost::connect() {
  Streams streams = connect_streams(wire_);
  serve(std::move(streams.source));
  std::vector<TcpPageSource::Region> regions(regions_.size());
  for (size_t i = 0; i < memfds_.size(); ++i)
    regions[i].memfd = memfds_[i];
  return std::make_unique<TcpPageSource>(std::move(streams.destination), std::move(regions));
}

UniqueFd SourceHost::connect_socket() {
  auto [left, right] = must(socket_pair(SOCK_STREAM));
  serve(must(make_plain_stream(std::move(left))));
  return std::move(right);
}

}  // namespace vmhop::testing_support
