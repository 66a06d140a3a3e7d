// What a supervisor does for relocations by ssh: at the destination it is held by a lease until the
// VM runs there, and on both hosts it keeps the relocation's key for whoever might take its place.
#include <poll.h>
#include <spdlog/spdlog.h>

#include "backend/session/key_passing.h"
#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "cli/one_time_key.h"
#include "cli/receiver_lease.h"
#include "cli/supervisor.h"

namespace vmhop {

using nlohmann::json;

Status Supervisor::hold_lease(ReceiverLease& lease) {
  VMHOP_TRY(lease.log_to(claim_.paths().directory() + "/log"));
  lease_ = &lease;
  renew_lease();
  loop_->set(lease.fd(), POLLIN, [this](short) {
    if (lease_->renew()) return renew_lease();
    lose_lease("the ssh session that asked for this VM has ended");
  });
  return ok_status();
}

void Supervisor::renew_lease() {
  loop_->cancel(lease_timer_);
  lease_timer_ = loop_->after(lease_->limit(), [this] {
    lose_lease(fmt::format("nothing was heard for {} s of the `vmhop relocate` that asked for it",
                           lease_->limit().count() / 1000));
  });
}

void Supervisor::let_lease_go() {
  loop_->cancel(lease_timer_);
  loop_->remove(lease_->fd());
}

// Whether that means anything is for the reception to say: from the moment the VM is stopped at the
// source on, ssh has no part in where it runs.
void Supervisor::lose_lease(const std::string& why) {
  let_lease_go();
  spdlog::warn("{}: {}", name_, why);
  if (working_) {
    mailbox_->put(Request::kLeaseLost, why);
  } else {
    finish(kExitFailed);
  }
}

void Supervisor::tell_lease_holder(const json& event) {
  if (lease_ == nullptr || lease_->settled()) return;
  std::string name = text_of(event, "event");
  if (name == "listening") {
    auto listen = parse_host_port(record_.listen);
    lease_->say({{"event", "ready"},
                 {"vm", name_},
                 {"port", listen ? listen->port : 0},
                 {"address", ReceiverLease::address_of_ssh()},
                 {"version", VMHOP_VERSION}});
  } else if (name == "arrived") {
    let_lease_go();
    lease_->settle();
  }
}

Status Supervisor::keep_one_time_key(RelocationRequest& request) {
  VMHOP_ASSIGN(Credentials credentials, take_credentials(std::move(request.key)));
  if (credentials.key() == nullptr) return Error("a relocation by ssh came without its key");
  std::string directory = claim_.paths().directory();
  VMHOP_TRY(vmhop::keep_one_time_key(directory, *credentials.key()));
  VMHOP_ASSIGN(request.key, pass_credentials(credentials));
  request.credentials = {one_time_key_path(directory)};
  return ok_status();
}

void Supervisor::forget_one_time_key() {
  std::string directory = claim_.paths().directory();
  vmhop::forget_one_time_key(directory);
  if (record_.credentials.key_path == one_time_key_path(directory)) record_.credentials = {};
}

}  // namespace vmhop
