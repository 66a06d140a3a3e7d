#include "bench/rdma_faults.h"

#include <cstdlib>
#include <span>

#include "rdma/memory_export.h"
#include "rdma/memory_import.h"

namespace vmhop::bench {
namespace {

constexpr std::chrono::seconds kTimeout{10};

// All of a stage's memory registered at both ends, and connections to read it by.
class RdmaLanes final : public PageLanes {
 public:
  static Result<std::unique_ptr<RdmaLanes>> create(const FaultStage& stage, size_t connections) {
    const char* address = std::getenv("VMHOP_RDMA_ADDRESS");
    if (address == nullptr) {
      return Error("VMHOP_RDMA_ADDRESS names no RDMA device: run this by ci/rxe-lab --");
    }
    std::unique_ptr<RdmaLanes> self(new RdmaLanes());
    VMHOP_ASSIGN(self->regions_, stage.target_regions());
    VMHOP_ASSIGN(self->export_,
                 rdma::RdmaMemoryExport::create(stage.source(), {}, [](const Error&) {}));
    VMHOP_ASSIGN(RdmaOffer offer, self->export_->offer(connections, address));
    VMHOP_ASSIGN(rdma::Locality locality, rdma::Locality::load({}));
    VMHOP_ASSIGN(self->import_,
                 rdma::RdmaMemoryImport::connect(offer, self->regions_, locality, kTimeout));
    VMHOP_TRY(self->export_->await_connections(kTimeout));
    ExtentList all{{0, stage.target().info().size}};
    VMHOP_ASSIGN(auto keys, self->export_->register_memory(std::vector<ExtentList>{all}));
    for (const MemoryKeys& part : keys)
      VMHOP_TRY(self->import_->add_keys(part));
    return self;
  }

  Result<std::unique_ptr<PageSource>> fault_source() override {
    return import_->take_source(0, nullptr);
  }
  Result<std::unique_ptr<PageSource>> bulk_source(unsigned precacher) override {
    return import_->take_source(1 + precacher, nullptr);
  }
  Result<rdma::Connection> bare_connection() { return import_->take_connection(0); }
  const rdma::KeyedRange* range_at(uint64_t offset) const {
    return import_->keys().find(0, offset);
  }

 private:
  RdmaLanes() = default;

  std::vector<DestinationMemory::Region> regions_;
  std::unique_ptr<rdma::RdmaMemoryExport> export_;
  std::unique_ptr<rdma::RdmaMemoryImport> import_;
};

class RdmaFloor final : public BareServer {
 public:
  static Result<std::unique_ptr<FaultServer>> start_on(const FaultStage& stage, Waiting waiting) {
    VMHOP_ASSIGN(auto lanes, RdmaLanes::create(stage, 1));
    VMHOP_ASSIGN(rdma::Connection connection, lanes->bare_connection());
    VMHOP_ASSIGN(EventFd stop, EventFd::create());
    std::unique_ptr<RdmaFloor> server(
        new RdmaFloor(stage, waiting, std::move(stop), std::move(lanes), std::move(connection)));
    server->start([raw = server.get()] { return raw->serve_faults(); });
    return std::unique_ptr<FaultServer>(std::move(server));
  }
  ~RdmaFloor() override { end(); }

 private:
  RdmaFloor(const FaultStage& stage, Waiting waiting, EventFd stop,
            std::unique_ptr<RdmaLanes> lanes, rdma::Connection connection)
      : BareServer(stage, waiting, std::move(stop)),
        lanes_(std::move(lanes)),
        connection_(std::move(connection)) {}

  Status fetch(uint64_t page) override {
    VMHOP_TRY(post(page * kPage));
    Status failed;
    auto look = [&] {  // whether it is there, or never will be
      ibv_wc completion{};
      auto count = connection_.completions.poll(std::span(&completion, 1));
      if (!count) failed = count.error();
      if (count && *count > 0 && completion.status != IBV_WC_SUCCESS)
        failed = Error(ibv_wc_status_str(completion.status));
      return !count || *count > 0;
    };
    while (!look()) {
      if (spin(for_pages_, look)) break;
      VMHOP_TRY(connection_.completions.arm());
      if (look()) break;  // what completes before that tells nobody
      VMHOP_TRY(sleep(connection_.completions.fd()));
      for_pages_.end_sleep();
    }
    return failed;
  }

  Status post(uint64_t offset) {
    const rdma::KeyedRange* range = lanes_->range_at(offset);
    if (range == nullptr) return Error("a page has no key");
    ibv_sge target{reinterpret_cast<uint64_t>(range->local + (offset - range->offset)), kPage,
                   range->local_key};
    ibv_send_wr request{};
    request.sg_list = &target;
    request.num_sge = 1;
    request.opcode = IBV_WR_RDMA_READ;
    request.send_flags = IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = range->remote_address + (offset - range->offset);
    request.wr.rdma.rkey = range->remote_key;
    ibv_send_wr* refused = nullptr;
    if (int cause = ibv_post_send(connection_.id->qp, &request, &refused); cause != 0) {
      return Error::from_errno("ibv_post_send", cause);
    }
    return ok_status();
  }

  std::unique_ptr<RdmaLanes> lanes_;
  rdma::Connection connection_;
  AdaptiveSpin for_pages_;
};

Result<std::unique_ptr<PageLanes>> make_lanes(const FaultStage& stage) {
  VMHOP_ASSIGN(auto lanes, RdmaLanes::create(stage, 1 + kPrecachers));
  return std::unique_ptr<PageLanes>(std::move(lanes));
}

}  // namespace

FaultTransport faults_by_rdma() {
  return {RdmaFloor::start_on, make_lanes};
}

}  // namespace vmhop::bench
