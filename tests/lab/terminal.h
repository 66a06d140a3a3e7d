// A terminal with a person in front of it: what a program shows there, and keys that are typed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/clock.h"

namespace vmhop::lab {

class Terminal {
 public:
  static constexpr std::string_view kCtrlC = "\x03";

  // With the settings of a fresh one, as a login shell would get it.
  static Result<std::unique_ptr<Terminal>> open();

  // The program's end, for ProcessSpec::terminal.
  int program_end() const { return program_end_.get(); }

  // As from the keyboard: the kernel makes a signal of Ctrl-C.
  Status type(std::string_view keys) const;

  // As when a person drags the window's corner.
  Status resize(unsigned short columns, unsigned short rows) const;

  // Waits until `seen`, given all that was shown so far, is true.
  using Seen = std::function<bool(std::string_view)>;
  Status wait_for(const Seen& seen, Deadline deadline);
  // All that was shown, control sequences included. (Lines end in "\r\n".)
  Result<std::string> shown();

  // Nobody has changed its settings, or they were put back.
  bool has_its_first_settings() const;

 private:
  Terminal(UniqueFd person_end, UniqueFd program_end, std::string settings)
      : person_end_(std::move(person_end)),
        program_end_(std::move(program_end)),
        first_settings_(std::move(settings)) {}
  Status read_what_is_there();

  UniqueFd person_end_;
  // Kept open, so that the settings outlive the program.
  UniqueFd program_end_;
  std::string first_settings_;
  std::string shown_;
};

}  // namespace vmhop::lab
