#include "backend/exporter_process.h"
#include "backend/base/thread_role.h"

#include <poll.h>
#include <spdlog/spdlog.h>

#include "backend/base/confinement.h"
#include "backend/base/control_channel.h"
#include "backend/base/event_loop.h"
#include "backend/local_server.h"
#include "backend/session/key_passing.h"
#include "backend/source_relocation.h"

namespace vmhop {
namespace {

class ExporterProcess {
 public:
  ExporterProcess(EventLoop& loop, UniqueFd control, const OneSidedFactory& make_one_sided)
      : loop_(loop), control_(std::move(control)), make_one_sided_(make_one_sided) {}

  Status run() {
    VMHOP_ASSIGN(ControlMessage first, control_.receive());
    VMHOP_TRY(start(std::move(first)));
    // Before anything else that is ready at the same time: a read point must overtake the device
    // state that QEMU writes after it.
    loop_.set(
        control_.fd(), POLLIN, [this](short) { serve_control(); }, -1);
    return loop_.run();
  }

  void tell(const nlohmann::json& event) {
    // That is over for this host, though the destination may still have to hear of it: the socket
    // is the next relocation's.
    std::string what = event.value("event", "");
    for (const char* end : {"failed", "aborted", "returned", "drained", "ended"})
      if (what == end) local_.reset();
    if (supervised_ && !control_.send(event)) supervised_ = false;
  }

 private:
  Status start(ControlMessage message);
  Status start_checked(ControlMessage message);
  void serve_control();
  nlohmann::json answer_local(const nlohmann::json& request);

  EventLoop& loop_;
  ControlChannel control_;
  const OneSidedFactory& make_one_sided_;
  std::unique_ptr<OneSidedTransport> one_sided_;
  bool supervised_ = true;
  std::unique_ptr<SourceRelocation> relocation_;
  std::unique_ptr<LocalServer> local_;
};

Status ExporterProcess::start(ControlMessage message) {
  try {
    return start_checked(std::move(message));
  } catch (const nlohmann::json::exception& broken) {
    return errorf("the exporter's start message: {}", broken.what());
  }
}

// Descriptors: key or certificates (key_passing.h), then the memory file of each region.
Status ExporterProcess::start_checked(ControlMessage message) {
  nlohmann::json& body = message.body;
  if (body.value("cmd", "") != "start") return Error("the exporter's first message is not start");
  SourceRelocation::Options options;
  options.destination = HostPort{body.at("host"), body.at("port").get<uint16_t>()};
  options.runtime_dir = body.at("runtime_dir");
  confine_files(options.runtime_dir);
  Hello& hello = options.hello;
  if (body.contains("committed")) {
    const auto& committed = body.at("committed");
    CommitRecord record;
    VMHOP_ASSIGN(record.relocation, relocation_id_from_hex(committed.at("relocation")));
    record.before_stop = committed.at("was_running") ? RunState::kRunning : RunState::kPaused;
    hello.relocation = record.relocation;
    options.committed = record;
  } else {
    VMHOP_TRY(fill_random(std::as_writable_bytes(std::span(hello.relocation))));
  }
  hello.vm = body.at("vm");
  hello.machine = body.at("machine");
  hello.qemu_version = body.at("qemu_version");
  hello.data =
      body.value("plain_data", false) ? DataProtection::kPlain : DataProtection::kEncrypted;
  hello.fault_lanes = body.value("fault_lanes", uint8_t{1});
  hello.bulk_lanes = body.value("bulk_lanes", uint8_t{2});
  options.transport = body.value("transport", TransportPolicy());
  options.memory.on_demand_paging = options.transport.on_demand_paging;
  hello.verify = options.transport.verify;
  hello.bandwidth = options.transport.bandwidth;
  if (make_one_sided_) {
    VMHOP_ASSIGN(one_sided_, make_one_sided_(options.transport.bind));
    options.one_sided = one_sided_.get();
  }

  if (message.fds.empty()) return Error("the exporter's start message came without a key");
  VMHOP_ASSIGN(Credentials credentials, take_credentials(std::move(message.fds.front())));

  std::vector<RamRegion> regions;
  for (const auto& entry : body.at("regions")) {
    RegionInfo info{entry.at("id"), entry.at("size"), entry.at("page_size")};
    hello.regions.push_back(info);
    size_t index = 1 + regions.size();
    if (index >= message.fds.size()) return Error("a region came without its memory");
    VMHOP_ASSIGN(RamRegion region,
                 RamRegion::map(info, std::move(message.fds[index]), Access::kRead));
    regions.push_back(std::move(region));
  }
  std::string path = options.runtime_dir + "/exporter.sock";
  VMHOP_ASSIGN(
      relocation_,
      SourceRelocation::start(loop_, std::move(options), std::move(credentials), std::move(regions),
                              [this](const nlohmann::json& event) { tell(event); }));
  VMHOP_ASSIGN(local_, LocalServer::start(loop_, path, [this](const nlohmann::json& request) {
                 return answer_local(request);
               }));
  return ok_status();
}

void ExporterProcess::serve_control() {
  auto message = control_.receive(0);
  if (!message) {
    if (message.error().kind() == ErrorKind::kTimedOut) return;
    // The supervisor is gone. What was decided is carried out without it.
    loop_.remove(control_.fd());
    supervised_ = false;
    relocation_->abort("the source's supervisor is gone");
    return;
  }
  const nlohmann::json& body = message->body;
  std::string command = body.value("cmd", "");
  if (command == "read_point") {
    relocation_->read_point(
        body.value("was_running", true) ? RunState::kRunning : RunState::kPaused,
        body.value("stopped_ns", uint64_t{0}));
  } else if (command == "source_completed") {
    relocation_->source_completed();
  } else if (command == "revoke") {
    relocation_->revoke();
  } else if (command == "abort") {
    relocation_->abort(body.value("reason", "aborted at the source"));
  } else {
    nlohmann::json answer = answer_local(body);
    tell(answer);
  }
}

nlohmann::json ExporterProcess::answer_local(const nlohmann::json& request) {
  std::string command = request.value("cmd", "");
  if (command == "status") return relocation_->status();
  if (command == "drop") {
    if (relocation_->state() != SourceState::kCommitted) {
      return {{"event", "error"},
              {"message", fmt::format("nothing to drop: this relocation is {}",
                                      source_state_name(relocation_->state()))}};
    }
    relocation_->drop();
    return {{"event", "dropped"}};
  }
  return {{"event", "error"}, {"message", "unknown command " + command}};
}

}  // namespace

int run_exporter_process(UniqueFd control, const OneSidedFactory& one_sided) {
  begin_thread("vmhop-exporter", ThreadRole::kSwitch);
  confine_process();
  auto loop = EventLoop::create();
  if (!loop) {
    spdlog::error("exporter: {}", loop.error().message());
    return 1;
  }
  ExporterProcess process(**loop, std::move(control), one_sided);
  if (Status done = process.run(); !done) {
    process.tell({{"event", "failed"}, {"kind", "failed"}, {"message", done.error().message()}});
    spdlog::error("exporter: {}", done.error().message());
    return 1;
  }
  return 0;
}

}  // namespace vmhop
