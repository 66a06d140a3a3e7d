#include "backend/pager_process.h"
#include "backend/base/thread_role.h"

#include <poll.h>
#include <spdlog/spdlog.h>

#include <array>

#include "backend/base/confinement.h"
#include "backend/base/control_channel.h"
#include "backend/base/event_loop.h"
#include "backend/destination_relocation.h"
#include "backend/local_server.h"
#include "backend/session/key_passing.h"

namespace vmhop {
namespace {

class PagerProcess {
 public:
  PagerProcess(EventLoop& loop, UniqueFd control, const OneSidedFactory& make_one_sided)
      : loop_(loop), control_(std::move(control)), make_one_sided_(make_one_sided) {}

  Status run() {
    VMHOP_ASSIGN(ControlMessage first, control_.receive());
    VMHOP_TRY(start(std::move(first)));
    loop_.set(
        control_.fd(), POLLIN, [this](short) { serve_control(); }, -1);
    return loop_.run();
  }

  void tell(const nlohmann::json& event, std::span<const int> fds = {}) {
    if (supervised_ && !control_.send(event, fds)) supervised_ = false;
    // The VM needs no pager, and its name none that only has to tell the source.
    if (supervised_ && event.value("event", "") == "drained") local_.reset();
  }

 private:
  Status start(ControlMessage message);
  Status start_checked(ControlMessage message);
  void serve_control();

  EventLoop& loop_;
  ControlChannel control_;
  const OneSidedFactory& make_one_sided_;
  std::unique_ptr<OneSidedTransport> one_sided_;
  bool supervised_ = true;
  std::unique_ptr<DestinationRelocation> relocation_;
  std::unique_ptr<LocalServer> local_;
};

Status PagerProcess::start(ControlMessage message) {
  try {
    return start_checked(std::move(message));
  } catch (const nlohmann::json::exception& broken) {
    return errorf("the pager's start message: {}", broken.what());
  }
}

// Descriptors: key or certificates (key_passing.h), the listening socket, a page map when one is
// taken over
// ("page_map": true), then for each region its memory file and its userfaultfd.
Status PagerProcess::start_checked(ControlMessage message) {
  nlohmann::json& body = message.body;
  if (body.value("cmd", "") != "start") return Error("the pager's first message is not start");
  DestinationRelocation::Options options;
  options.vm = body.at("vm");
  options.machine = body.at("machine");
  options.qemu_version = body.at("qemu_version");
  std::string runtime_dir = body.at("runtime_dir");
  confine_files(runtime_dir);
  options.incoming_socket = runtime_dir + "/incoming.sock";
  options.bulk_lanes = body.value("bulk_lanes", 2U);
  options.transport = body.value("transport", TransportPolicy());
  if (make_one_sided_) {
    VMHOP_ASSIGN(one_sided_, make_one_sided_(options.transport.bind));
    options.one_sided = one_sided_.get();
  }
  std::vector<uint64_t> addresses;
  for (const auto& entry : body.at("regions")) {
    options.regions.push_back(RegionInfo{entry.at("id"), entry.at("size"), entry.at("page_size")});
    addresses.push_back(entry.at("address"));
  }
  bool takes_over = body.value("page_map", false);
  size_t expected = 2 + (takes_over ? 1 : 0) + 2 * options.regions.size();
  if (options.regions.empty() || message.fds.size() != expected) {
    return errorf("the pager's start message has {} descriptors instead of {}", message.fds.size(),
                  expected);
  }
  auto next = message.fds.begin();
  VMHOP_ASSIGN(Credentials credentials, take_credentials(std::move(*next++)));
  UniqueFd listening = std::move(*next++);
  auto page_map = takes_over ? PageMap::attach(std::move(*next++), options.regions)
                             : PageMap::create(options.regions, runtime_dir + "/pages");
  if (!page_map) return page_map.error();
  std::vector<DestinationMemory::Region> regions;
  for (size_t i = 0; i < options.regions.size(); ++i) {
    VMHOP_ASSIGN(RamRegion ram,
                 RamRegion::map(options.regions[i], std::move(*next++), Access::kReadWrite));
    regions.push_back({std::move(ram), addresses[i], Userfault(std::move(*next++))});
  }
  VMHOP_ASSIGN(relocation_, DestinationRelocation::start(
                                loop_, std::move(options), credentials, std::move(listening),
                                std::move(regions), std::make_unique<PageMap>(std::move(*page_map)),
                                [this](const nlohmann::json& event) { tell(event); }));
  VMHOP_ASSIGN(
      local_,
      LocalServer::start(loop_, runtime_dir + "/pager.sock",
                         [this](const nlohmann::json& request) -> nlohmann::json {
                           if (request.value("cmd", "") == "status") {
                             return relocation_->status();
                           }
                           return {{"event", "error"}, {"message", "the pager only knows status"}};
                         }));
  // The supervisor keeps the page map too: a new pager goes on with it.
  std::array<int, 1> fds{relocation_->page_map_fd()};
  tell({{"event", "listening"}, {"port", relocation_->port()}}, fds);
  relocation_->repeat_news();
  return ok_status();
}

void PagerProcess::serve_control() {
  auto message = control_.receive(0);
  if (!message) {
    if (message.error().kind() == ErrorKind::kTimedOut) return;
    loop_.remove(control_.fd());
    supervised_ = false;
    return relocation_->unsupervised();
  }
  const nlohmann::json& body = message->body;
  std::string command = body.value("cmd", "");
  std::string text = body.value("message", body.value("reason", ""));
  if (command == "prepared") return relocation_->prepared();
  if (command == "refuse") return relocation_->refuse(text);
  if (command == "loaded") return relocation_->loaded();
  if (command == "commit") return relocation_->commit_by_operator();
  if (command == "load_failed") return relocation_->load_failed(text);
  if (command == "running") return relocation_->running(body.value("resumed_ns", uint64_t{0}));
  if (command == "returned") return relocation_->returned(text);
  if (command == "ended") return relocation_->ended(text);
  if (command == "lost") return relocation_->lost(text);
  if (command == "status") return tell(relocation_->status());
  tell({{"event", "error"}, {"message", "unknown command " + command}});
}

}  // namespace

int run_pager_process(UniqueFd control, const OneSidedFactory& one_sided) {
  begin_thread("vmhop-pager", ThreadRole::kSwitch);
  confine_process();
  auto loop = EventLoop::create();
  if (!loop) {
    spdlog::error("pager: {}", loop.error().message());
    return 1;
  }
  PagerProcess process(**loop, std::move(control), one_sided);
  if (Status done = process.run(); !done) {
    process.tell({{"event", "failed"}, {"message", done.error().message()}});
    spdlog::error("pager: {}", done.error().message());
    return 1;
  }
  return 0;
}

}  // namespace vmhop
