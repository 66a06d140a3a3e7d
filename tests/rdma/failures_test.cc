// What fails is named with its device, leaves nothing behind, and is never taken for a page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "tests/rdma/failing_calls.h"
#include "tests/rdma/rdma_host.h"

namespace vmhop::testing_support {
namespace {

using testing::HasSubstr;
using By = FailingCall::By;

std::vector<MemoryImage> some_images() {
  std::vector<MemoryImage> images;
  images.emplace_back(512, 1, all_data);
  return images;
}

Status finish(PageSource& source) {
  std::array<PageArrival, 16> arrivals;
  for (;;) {
    VMHOP_ASSIGN(size_t count, source.poll(arrivals));
    if (count > 0) return ok_status();
    if (!wait_for(source)) return Error("nothing came");
  }
}

PageRead read_of(const RdmaPair& pair, uint64_t page) {
  return {{0, page * kPage, kPage}, pair.target(0) + page * kPage};
}

void expect_pages_arrive(RdmaPair& pair, const MemoryImage& image) {
  auto source = pair.source(0);
  ASSERT_TRUE(source->post(std::vector{read_of(pair, 7)}).ok());
  Status done = finish(*source);
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_TRUE(image.matches(7, pair.target(0) + 7 * kPage));
}

class ExportFailure : public testing::TestWithParam<const char*> {};
TEST_P(ExportFailure, IsNamed) {
  auto images = some_images();
  std::vector<RamRegion> regions = export_images(images);
  FailingCall failing(GetParam(), ENOMEM);
  auto made = rdma::RdmaMemoryExport::create(regions, {}, [](const Error&) {});
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(), HasSubstr(GetParam()));
  EXPECT_THAT(made.error().message(), HasSubstr("Cannot allocate memory"));
}
INSTANTIATE_TEST_SUITE_P(Of, ExportFailure,
                         testing::Values("rdma_create_event_channel", "rdma_create_id",
                                         "rdma_bind_addr", "rdma_listen"));

class ConnectFailure : public testing::TestWithParam<const char*> {};
TEST_P(ConnectFailure, IsNamedAndTheNextAttemptSucceeds) {
  auto images = some_images();
  RdmaPair pair(images);
  {
    RdmaOffer offer = must(pair.offer());
    offer.addresses = {lab_address()};
    FailingCall failing(GetParam(), ENOMEM);
    Status connected = pair.connect(offer);
    EXPECT_TRUE(failing.happened());
    ASSERT_FALSE(connected.ok());
    bool resolves = std::string(GetParam()) == "rdma_resolve_addr";
    EXPECT_THAT(connected.error().message(),
                HasSubstr(resolves ? "can be reached by an RDMA device" : GetParam()));
  }
  pair.establish();
  expect_pages_arrive(pair, images[0]);
}
INSTANTIATE_TEST_SUITE_P(Of, ConnectFailure,
                         testing::Values("rdma_resolve_addr", "rdma_resolve_route", "rdma_connect",
                                         "ibv_alloc_pd", "ibv_create_comp_channel", "ibv_create_cq",
                                         "rdma_create_qp"));

class AcceptFailure : public testing::TestWithParam<const char*> {};
TEST_P(AcceptFailure, IsSeenByBothSidesAndTheNextAttemptSucceeds) {
  auto images = some_images();
  RdmaPair pair(images);
  {
    RdmaOffer offer = must(pair.offer());
    FailingCall failing(GetParam(), ENOMEM, By::kOtherThreads);
    EXPECT_FALSE(pair.connect(offer).ok());
    Status there = pair.exported().await_connections(std::chrono::seconds(5));
    ASSERT_FALSE(there.ok());
    EXPECT_THAT(there.error().message(), HasSubstr(GetParam()));
  }
  pair.establish();
  expect_pages_arrive(pair, images[0]);
}
INSTANTIATE_TEST_SUITE_P(Of, AcceptFailure,
                         testing::Values("ibv_alloc_pd", "ibv_create_comp_channel", "ibv_create_cq",
                                         "rdma_create_qp", "rdma_accept"));

TEST(RegistrationFailure, OfTheSourceIsNamedWithWhatMayBeLocked) {
  auto images = some_images();
  RdmaPair pair(images);
  must(pair.connect(must(pair.offer())));
  rlimit before{};
  ::getrlimit(RLIMIT_MEMLOCK, &before);
  rlimit low = before;
  low.rlim_cur = 8 << 20;
  ::setrlimit(RLIMIT_MEMLOCK, &low);
  {
    FailingCall failing("ibv_reg_mr", ENOMEM);
    auto keys = pair.exported().register_memory(pair.populated());
    ASSERT_FALSE(keys.ok());
    EXPECT_THAT(keys.error().message(), HasSubstr("ibv_reg_mr on "));
    EXPECT_THAT(keys.error().message(), HasSubstr("may lock 8 MiB: raise RLIMIT_MEMLOCK"));
  }
  ::setrlimit(RLIMIT_MEMLOCK, &before);
  must(pair.send_keys());
  expect_pages_arrive(pair, images[0]);
}

TEST(RegistrationFailure, OfTheDestinationCostsACopyAndNothingElse) {
  auto images = some_images();
  RdmaPair pair(images);
  must(pair.connect(must(pair.offer())));
  {
    auto added = must(pair.exported().register_memory(pair.populated()));
    FailingCall failing("ibv_reg_mr", ENOMEM);
    for (const MemoryKeys& keys : added)
      must(pair.imported().add_keys(keys));
    EXPECT_TRUE(failing.happened());
  }
  expect_pages_arrive(pair, images[0]);
}

TEST(OnDemandPaging, IsUsedWhereTheDeviceOffersItAndItIsAskedFor) {
  auto images = some_images();
  for (bool asked : {false, true}) {
    RdmaPair pair(images, 3, {asked});
    must(pair.connect(must(pair.offer())));
    rdma::Connection connection = must(pair.imported().take_connection(2));
    pretend_on_demand_paging(connection.id.device());
    must(pair.exported().register_memory(pair.populated()));
    EXPECT_EQ((last_registration_flags() & IBV_ACCESS_ON_DEMAND) != 0, asked);
    EXPECT_EQ(last_registration_flags() & ~int{IBV_ACCESS_ON_DEMAND}, IBV_ACCESS_REMOTE_READ);
  }
}

TEST(ReadFailure, OfAQueuePairInErrorIsReportedAndStays) {
  auto images = some_images();
  RdmaPair pair(images);
  must(pair.connect(must(pair.offer())));
  ibv_qp* latest = last_queue_pair();  // of connection 2
  must(pair.send_keys());
  auto source = pair.source(2);
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  ASSERT_EQ(ibv_modify_qp(latest, &attributes, IBV_QP_STATE), 0);
  Status posted = source->post(std::vector{read_of(pair, 1)});
  Status done = posted ? finish(*source) : posted;
  ASSERT_FALSE(done.ok());
  EXPECT_FALSE(source->post(std::vector{read_of(pair, 2)}).ok());
  EXPECT_FALSE(finish(*source).ok());
}

// The lab's own interface: nobody else's is taken down.
TEST(PortFailure, IsReportedByAnIdlePageSource) {
  if (std::getenv("VMHOP_LAB") == nullptr) {
    GTEST_SKIP() << "takes the RDMA device's network interface down: only in ci/rxe-lab's kernel";
  }
  auto images = some_images();
  RdmaPair pair(images);
  pair.establish();
  auto source = pair.source(0);
  ASSERT_EQ(std::system("ip link set v0 down"), 0);
  Status done = finish(*source);
  ASSERT_EQ(std::system("ip link set v0 up"), 0);
  ASSERT_FALSE(done.ok());
  EXPECT_THAT(done.error().message(), testing::HasSubstr("port"));
}

TEST(DeviceRemoval, IsReportedByAnIdlePageSource) {
  auto images = some_images();
  RdmaPair pair(images);
  pair.establish();
  auto source = pair.source(0);
  RemovedDevice removed;
  pair.end_export();
  Status done = finish(*source);
  ASSERT_FALSE(done.ok());
  EXPECT_THAT(done.error().message(), testing::MatchesRegex("the RDMA device .+ was removed"));
  EXPECT_FALSE(source->post(std::vector{read_of(pair, 2)}).ok());
}

TEST(DeviceRemoval, IsReportedByTheExportOnceForEachConnection) {
  auto images = some_images();
  RdmaPair pair(images);
  pair.establish();
  RemovedDevice removed;
  pair.end_import();
  ASSERT_TRUE(eventually([&] { return pair.losses().size() == 3; }));
  EXPECT_THAT(pair.losses(),
              testing::Each(testing::MatchesRegex("the RDMA device .+ was removed")));
}

// Completions as a device reports them that cannot get through.
ibv_wc_status injected = IBV_WC_SUCCESS;
int (*real_poll)(ibv_cq*, int, ibv_wc*);
int poll_with_status(ibv_cq* queue, int entries, ibv_wc* completions) {
  int count = real_poll(queue, entries, completions);
  for (int i = 0; i < count; ++i)
    completions[i].status = injected;
  return count;
}
int poll_that_fails(ibv_cq* /*queue*/, int /*entries*/, ibv_wc* /*completions*/) {
  errno = EIO;
  return -1;
}
int post_that_fails(ibv_qp* /*pair*/, ibv_send_wr* request, ibv_send_wr** refused) {
  *refused = request;
  return ENOMEM;
}

class DeviceFailure : public testing::Test {
 protected:
  DeviceFailure() : images_(some_images()), pair_(images_) {
    pair_.establish();
    device_ = must(pair_.imported().take_connection(2)).id.device();
    operations_ = device_->ops;
    real_poll = device_->ops.poll_cq;
    source_ = pair_.source(0);
  }
  ~DeviceFailure() override { device_->ops = operations_; }

  Status read() {
    VMHOP_TRY(source_->post(std::vector{read_of(pair_, 3)}));
    return finish(*source_);
  }

  std::vector<MemoryImage> images_;
  RdmaPair pair_;
  ibv_context* device_;
  ibv_context_ops operations_;
  std::unique_ptr<PageSource> source_;
};

TEST_F(DeviceFailure, OfEveryKindIsNoPage) {
  for (ibv_wc_status status : {IBV_WC_RETRY_EXC_ERR, IBV_WC_WR_FLUSH_ERR, IBV_WC_REM_ACCESS_ERR,
                               IBV_WC_LOC_PROT_ERR, IBV_WC_FATAL_ERR}) {
    injected = status;
    device_->ops.poll_cq = poll_with_status;
    Status done = read();
    device_->ops = operations_;
    ASSERT_FALSE(done.ok());
    EXPECT_THAT(done.error().message(), HasSubstr(ibv_wc_status_str(status)));
    // The next one begins anew.
    pair_.end_import();
    must(pair_.connect(must(pair_.offer())));
    for (const MemoryKeys& keys : pair_.exported().keys())
      must(pair_.imported().add_keys(keys));
    source_ = pair_.source(0);
  }
}

TEST_F(DeviceFailure, ToPostIsNamed) {
  device_->ops.post_send = post_that_fails;
  Status done = read();
  ASSERT_FALSE(done.ok());
  EXPECT_THAT(done.error().message(), HasSubstr("ibv_post_send on "));
}

TEST_F(DeviceFailure, ToPollIsNamed) {
  device_->ops.poll_cq = poll_that_fails;
  Status done = read();
  ASSERT_FALSE(done.ok());
  EXPECT_THAT(done.error().message(), HasSubstr("ibv_poll_cq on "));
}

}  // namespace
}  // namespace vmhop::testing_support
