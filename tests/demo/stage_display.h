// What a person sees while the demo goes on: a line for each stage.
#pragma once

#include <string>

namespace vmhop::demo {

class StageDisplay {
 public:
  StageDisplay();

  // What is under way now; on a terminal only, and replaced by what comes next.
  void working(const std::string& stage, const std::string& text);
  // A stage that is done, with its result.
  void done(const std::string& stage, const std::string& text);
  void warn(const std::string& text);
  void failed(const std::string& stage, const std::string& text);
  // Lines of their own.
  void text(const std::string& lines);

  bool on_terminal() const { return terminal_; }
  // Emphasis, where it can be seen.
  std::string bold(const std::string& text) const;

 private:
  void line(const char* mark, const char* colour, const std::string& stage,
            const std::string& text);

  bool terminal_;
};

}  // namespace vmhop::demo
