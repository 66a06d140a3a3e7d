// Keeps the course of a supervisor's relocation or reception where `vmhop report` finds it: once a
// second while memory is on its way, and when it is over. Belongs to the supervisor's loop; what
// cannot be written costs the report and nothing else.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "cli/relocation_course.h"

namespace vmhop {

class CourseRecorder {
 public:
  CourseRecorder(std::string base, std::string vm) : base_(std::move(base)), vm_(std::move(vm)) {}

  void begin(CourseSide side, const std::string& peer, const nlohmann::json& facts);
  // Goes on with what a supervisor that died has kept, or begins anew.
  void go_on(CourseSide side, const std::string& peer, const nlohmann::json& facts);
  bool under_way() const { return course_.has_value(); }
  // These two do nothing while none is under way.
  void on_event(const nlohmann::json& event);
  void end(const std::string& end, const std::string& message, const nlohmann::json& report);

 private:
  using Clock = std::chrono::steady_clock;
  void save();

  std::string base_;
  std::string vm_;
  std::optional<RelocationCourse> course_;
  Clock::time_point saved_;
};

}  // namespace vmhop
