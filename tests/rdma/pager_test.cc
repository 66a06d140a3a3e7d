// The pager reads by RDMA while the guest reads and writes: every byte is right.
#include <gtest/gtest.h>

#include "tests/backend/pager_run.h"
#include "tests/rdma/rdma_host.h"

namespace vmhop::testing_support {
namespace {

using std::chrono::seconds;

constexpr unsigned kPrecachers = 2;

class RdmaPager : public testing::Test {
 protected:
  RdmaPager() {
    images_.emplace_back(3000, 1, mixed);
    images_.emplace_back(1000, 2, all_data);
    lanes_ = std::make_unique<SourceHost>(images_);
    for (const MemoryImage& image : images_)
      sources_.push_back(image.exported());
    vmm_ = std::make_unique<ToyVmm>(images_);
    lanes_->write_to(vmm_->memfds());
    targets_ = vmm_->regions();
    export_ = must(rdma::RdmaMemoryExport::create(sources_, {}, [](const Error&) {}));
  }

  // All connections anew, with keys for what `covers` lets through.
  void connect(const std::function<ExtentList(const ExtentList&)>& covers) {
    import_.reset();
    RdmaOffer offer = must(export_->offer(1 + kPrecachers, lab_address()));
    import_ = must(rdma::RdmaMemoryImport::connect(offer, targets_, must(rdma::Locality::load({})),
                                                   seconds(10)));
    must(export_->await_connections(seconds(10)));
    std::vector<ExtentList> extents;
    for (const RamRegion& region : sources_)
      extents.push_back(covers(must(region.populated_extents())));
    must(export_->register_memory(extents));
    for (const MemoryKeys& keys : export_->keys())
      must(import_->add_keys(keys));
  }
  PagerRun::Connect sources() {
    return [this](int lane) {
      return must(import_->take_source(static_cast<size_t>(lane + 1), lanes_->connect()));
    };
  }
  void expect_right() { EXPECT_EQ(vmm_->wrong_pages(), 0U) << vmm_->first_wrong(); }

  static ExtentList all(const ExtentList& extents) { return extents; }
  static ExtentList every_other(const ExtentList& extents) {
    ExtentList some;
    for (size_t i = 0; i < extents.size(); i += 2)
      some.push_back(extents[i]);
    return some;
  }

  std::vector<MemoryImage> images_;
  std::unique_ptr<SourceHost> lanes_;
  std::vector<RamRegion> sources_;
  std::unique_ptr<ToyVmm> vmm_;
  std::vector<DestinationMemory::Region> targets_;
  std::unique_ptr<rdma::RdmaMemoryExport> export_;
  std::unique_ptr<rdma::RdmaMemoryImport> import_;
};

TEST_F(RdmaPager, DrainsWhileTheGuestReadsAndWrites) {
  connect(all);
  PagerRun run(*vmm_, kPrecachers, sources());
  vmm_->start_guest(3, 3000, 11);
  run.give_final_layout(sources_);
  run.attach_all();
  EXPECT_TRUE(run.drain()) << run.broken();
  vmm_->join_guest();
  expect_right();
  // Data came by RDMA: the lanes had next to nothing to do.
  EXPECT_EQ(lanes_->counters().bytes_sent, 0U);
}

TEST_F(RdmaPager, AsksByNameForWhatHasNoKeyYet) {
  connect(every_other);
  PagerRun run(*vmm_, kPrecachers, sources());
  vmm_->start_guest(3, 1000, 12);
  run.give_final_layout(sources_);
  run.attach_all();
  EXPECT_TRUE(run.drain()) << run.broken();
  vmm_->join_guest();
  expect_right();
  EXPECT_GT(lanes_->counters().bytes_sent, 0U);
}

TEST_F(RdmaPager, GoesOnOverNewConnectionsWhenTheOldOnesAreCutInTheMiddle) {
  connect(all);
  PagerRun run(*vmm_, kPrecachers, [this](int lane) -> std::unique_ptr<PageSource> {
    if (lane == PagerRun::kFaultLane) connect(all);  // it is the first to be brought anew
    return sources()(lane);
  });
  vmm_->start_guest(3, 1000, 13);
  run.attach_all();
  ASSERT_TRUE(eventually([&] { return vmm_->counts().resident > 200; }));
  must(export_->offer(1, lab_address()));  // ends all connections
  EXPECT_FALSE(run.wait_for_loss().empty());
  run.give_final_layout(sources_);
  run.attach_all();
  EXPECT_TRUE(run.drain()) << run.broken();
  vmm_->join_guest();
  expect_right();
}

}  // namespace
}  // namespace vmhop::testing_support
