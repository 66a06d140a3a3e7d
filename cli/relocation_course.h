// The course of one relocation, as this host's supervisor sees it: phases, what happened, and how
// its memory came along. For `vmhop report`, also long after it is over.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace vmhop {

enum class CourseSide { kSource, kDestination };
const char* course_side_name(CourseSide side);

class RelocationCourse {
 public:
  // Of progress; a relocation that lasts longer has them further apart.
  static constexpr size_t kMaxSamples = 600;
  static constexpr size_t kMaxMarks = 50;

  // Times are CLOCK_REALTIME in ns, the clock of QEMU's events. `facts` are of the VM: what
  // `vmhop status` says about it.
  RelocationCourse(const std::string& vm, CourseSide side, const std::string& peer,
                   const nlohmann::json& facts, uint64_t now_ns);
  // One that a supervisor which died has left. A record() that is not over.
  explicit RelocationCourse(nlohmann::json record) : record_(std::move(record)) {}
  static bool can_go_on(const nlohmann::json& record, CourseSide side);

  // An event of docs/protocol-local.md, of the relocation or the reception.
  void on_event(const nlohmann::json& event, uint64_t now_ns);
  // How it ended: one of the words of "result" in docs/protocol-local.md.
  void end(const std::string& end, const std::string& message, const nlohmann::json& report,
           uint64_t now_ns);
  // Something that is worth a mark in time.
  void mark(const std::string& text, uint64_t now_ns);

  // As it is kept; docs/protocol-local.md has its members.
  const nlohmann::json& record() const { return record_; }

 private:
  uint64_t since_start(uint64_t time_ns) const;
  void begin_phase(const char* name, uint64_t time_ns);
  void on_phase(const nlohmann::json& event, uint64_t now_ns);
  void on_running(const nlohmann::json& event, uint64_t now_ns);
  void take_last_word(const nlohmann::json& report, uint64_t now_ns);
  void sample(const nlohmann::json& progress, uint64_t now_ns);
  void thin_out();

  nlohmann::json record_;
};

}  // namespace vmhop
