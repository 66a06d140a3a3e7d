// The source's end of a relocation over TCP page lanes, within the test's process.
#pragma once

#include <memory>
#include <vector>

#include "backend/page_source.h"
#include "backend/tcp/page_server.h"
#include "tests/backend/memory_image.h"
#include "tests/backend/page_source_conformance.h"

namespace vmhop::testing_support {

class SourceHost final : public SourceUnderTest {
 public:
  enum class Wire { kPlain, kTls };

  // Knows the layout of the memory, as an exporter does.
  explicit SourceHost(const std::vector<MemoryImage>& images, Wire wire = Wire::kPlain);

  void write_to(std::vector<int> memfds) override { memfds_ = std::move(memfds); }

  // A page source and its server, a thread of its own.
  std::unique_ptr<PageSource> connect() override;
  // The destination's end of a plain lane, for another process.
  UniqueFd connect_socket();
  // Ends all lanes.
  void disconnect() override { lanes_.clear(); }

  std::span<const RamRegion> regions() const { return regions_; }
  void forget_layout() { store_.set_layout(nullptr); }
  const PageServerCounters& counters() const { return counters_; }

 private:
  void serve(std::unique_ptr<ByteStream> stream);

  Wire wire_;
  std::vector<int> memfds_;
  std::vector<RamRegion> regions_;
  PageStore store_;
  PageServerCounters counters_;
  std::vector<std::unique_ptr<PageServer>> lanes_;
};

}  // namespace vmhop::testing_support
