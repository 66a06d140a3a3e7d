// RDMA keeps every promise of a page source, with TCP for what no key covers.
#include "tests/backend/page_source_conformance.h"
#include "tests/rdma/rdma_host.h"

namespace vmhop::testing_support {
namespace {

// As a relocation has it: what was populated is read by RDMA, the rest is asked for by name.
class RdmaUnderTest final : public SourceUnderTest {
 public:
  explicit RdmaUnderTest(const std::vector<MemoryImage>& images)
      : lanes_(images), pair_(images, kConnections) {
    pair_.establish();
  }

  std::unique_ptr<PageSource> connect() override { return pair_.source(next_++, lanes_.connect()); }
  void disconnect() override {
    pair_.end_export();
    lanes_.disconnect();
  }

 private:
  static constexpr size_t kConnections = 5;
  SourceHost lanes_;
  RdmaPair pair_;
  size_t next_ = 0;
};

std::unique_ptr<SourceUnderTest> make(const std::vector<MemoryImage>& images) {
  return std::make_unique<RdmaUnderTest>(images);
}

// The suite reads into memory of its own, which is not registered: every read is bounced.
auto name_of = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Rdma, PageSourceConformance,
                         testing::Values(SourceImplementation{"Bounced", make, false}), name_of);

}  // namespace
}  // namespace vmhop::testing_support
