#include "cli/vm_view.h"

#include "cli/json_access.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kRateWindow{3};

}  // namespace

void VmView::set(const std::string& key, json value) {
  if (value.is_null()) {
    facts_.erase(key);
  } else {
    facts_[key] = std::move(value);
  }
}

void VmView::forget_relocation() {
  relocation_ = json::object();
  progress_ = nullptr;
  samples_.clear();
  link_lost_ = false;
}

void VmView::on_link(bool up) {
  relocation_["link"] = up;
  if (up && link_lost_) ++reconnects_;
  link_lost_ = !up;
}

void VmView::on_event(const json& event, Clock::time_point now) {
  std::string name = text_of(event, "event");
  if (name == "progress") {
    on_progress(event, now);
  } else if (name == "drained" && member_of(event, "report").is_object()) {
    // The last word: the progress before it may be a tenth of a second old.
    on_progress(member_of(event, "report"), now);
    arrived_ = progress_;
  } else if (name == "phase") {
    std::string phase = text_of(event, "phase");
    if (phase == "committed") phase = "leaving";
    if (phase != "rolling_back") state_ = phase;
  } else if (name == "running") {
    relocation_["blackout_ns"] = number_of(event, "blackout_ns");
  } else if (name == "link") {
    on_link(flag_of(event, "up", true));
    relocation_["message"] = text_of(event, "message");
  } else if (name == "notice") {
    relocation_["message"] = text_of(event, "message");
  } else if (name == "unresolved") {
    state_ = "unresolved";
    relocation_["message"] = text_of(event, "message");
  } else if (name == "connected") {
    if (state_ == "waiting") state_ = "receiving";
    facts_["peer"] = text_of(event, "peer");
    on_link(true);
  } else if (name == "in_doubt") {
    state_ = "in doubt";
    on_link(false);
    relocation_["message"] = text_of(event, "message");
  } else if (name == "given_back") {
    state_ = "given back";
    relocation_["message"] = text_of(event, "message");
  } else if (name == "arrived") {
    state_ = "arriving";
  }
}

void VmView::on_progress(const json& progress, Clock::time_point now) {
  progress_ = progress;
  progress_.erase("event");
  samples_.push_back(
      {now, number_of(progress, "pages_resident"), number_of(progress, "bytes_read")});
  while (samples_.size() > 2 && now - samples_[1].at > kRateWindow)
    samples_.pop_front();
}

double VmView::per_second(uint64_t Sample::*value) const {
  if (samples_.size() < 2) return 0;
  const Sample& first = samples_.front();
  const Sample& last = samples_.back();
  double seconds = std::chrono::duration<double>(last.at - first.at).count();
  if (seconds <= 0 || last.*value <= first.*value) return 0;
  return static_cast<double>(last.*value - first.*value) / seconds;
}

std::optional<std::chrono::milliseconds> VmView::time_to_drain() const {
  uint64_t total = number_of(progress_, "pages_total");
  uint64_t resident = number_of(progress_, "pages_resident");
  double rate = per_second(&Sample::resident);
  if (total == 0 || rate <= 0) return std::nullopt;
  double left = total > resident ? static_cast<double>(total - resident) : 0;
  return std::chrono::milliseconds(static_cast<int64_t>(1000 * left / rate));
}

json VmView::to_json() const {
  json status = facts_;
  status.update(relocation_);
  status["event"] = "status";
  status["vm"] = vm_;
  status["state"] = state_;
  status["reconnects"] = reconnects_;
  if (!arrived_.is_null()) status["arrived"] = arrived_;
  if (!progress_.is_null()) {
    status["progress"] = progress_;
    status["bytes_per_second"] = static_cast<uint64_t>(per_second(&Sample::bytes));
    if (auto left = time_to_drain()) status["remaining_ms"] = left->count();
  }
  return status;
}

}  // namespace vmhop
