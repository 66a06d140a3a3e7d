// A man page as it grows, in the macros of man(7).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vmhop {

// Text that means itself in roff: backslashes, dashes, leading dots and quotes, and what is not
// ASCII.
std::string roff_text(std::string_view text);

class ManPage {
 public:
  ManPage(std::string_view name, int section, std::string_view version);

  void section(std::string_view title);
  // Words that wrap.
  void paragraph(std::string_view text);
  // A tag in bold, and a placeholder in italics if it has one; then what it is.
  void item(std::string_view tag, std::string_view placeholder, std::string_view text);
  // Lines as they are.
  void literal(const std::vector<std::string>& lines);
  // Other pages: "vmhop(1)".
  void references(const std::vector<std::string>& pages);
  // Paragraphs, and lines that are indented as they are: as help texts are written.
  void help_text(std::string_view text);

  // "vmhop run [--front …] NAME -- QEMU ARGS…", already roff.
  void line(std::string_view roff) { text_.append(roff).append("\n"); }

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// In bold and in italics, within line().
std::string roff_bold(std::string_view text);
std::string roff_italic(std::string_view text);

}  // namespace vmhop
