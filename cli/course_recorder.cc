#include "cli/course_recorder.h"

#include <spdlog/spdlog.h>

#include "backend/base/realtime.h"
#include "cli/json_access.h"
#include "cli/relocation_records.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kSaveInterval{1};

}  // namespace

void CourseRecorder::begin(CourseSide side, const std::string& peer, const json& facts) {
  course_.emplace(vm_, side, peer, facts, realtime_ns());
  saved_ = Clock::now();
}

void CourseRecorder::go_on(CourseSide side, const std::string& peer, const json& facts) {
  auto record = load_relocation_record(base_, vm_);
  if (!record || !RelocationCourse::can_go_on(*record, side)) return begin(side, peer, facts);
  course_.emplace(std::move(*record));
  course_->mark("another supervisor took over", realtime_ns());
  saved_ = Clock::now();
}

void CourseRecorder::on_event(const json& event) {
  if (!course_) return;
  course_->on_event(event, realtime_ns());
  // Not at the events of the switch: nothing is written during a blackout.
  bool progress = text_of(event, "event") == "progress";
  if (progress && Clock::now() - saved_ >= kSaveInterval) save();
}

void CourseRecorder::end(const std::string& end, const std::string& message, const json& report) {
  if (!course_) return;
  course_->end(end, message, report, realtime_ns());
  save();
  course_.reset();
}

void CourseRecorder::save() {
  saved_ = Clock::now();
  if (auto saved = save_relocation_record(base_, vm_, course_->record()); !saved) {
    spdlog::warn("{}: the course of the relocation is not kept: {}", vm_, saved.error().message());
  }
}

}  // namespace vmhop
