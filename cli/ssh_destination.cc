#include "cli/ssh_destination.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace vmhop {
namespace {

constexpr std::string_view kScheme = "ssh://";

// Nothing that ssh could take for an option, or ssh_config's substitutions or a shell for more than
// a name.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.front() != '-' && std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("._-:%+").find(c) != std::string_view::npos;
  });
}

Error no_ssh_destination(std::string_view text) {
  return refusedf("'{}' is no destination; write ssh://HOST, ssh://USER@HOST or ssh://HOST:PORT",
                  text);
}

bool read_port(std::string_view digits, uint16_t& port) {
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc() && end == digits.data() + digits.size() && port != 0;
}

}  // namespace

bool is_ssh_destination(std::string_view text) {
  return text.starts_with(kScheme);
}

Result<SshDestination> parse_ssh_destination(std::string_view text) {
  if (!is_ssh_destination(text)) return no_ssh_destination(text);
  std::string_view rest = text.substr(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  SshDestination there;
  if (size_t at = rest.rfind('@'); at != std::string_view::npos) {
    there.user = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    if (!is_plain_name(there.user)) return no_ssh_destination(text);
  }
  std::string_view port;
  if (rest.starts_with('[')) {
    size_t closing = rest.find(']');
    if (closing == std::string_view::npos) return no_ssh_destination(text);
    there.host = rest.substr(1, closing - 1);
    port = rest.substr(closing + 1);
    if (!port.empty() && port.front() != ':') return no_ssh_destination(text);
  } else {
    size_t colon = std::min(rest.find(':'), rest.size());
    there.host = rest.substr(0, colon);
    port = rest.substr(colon);
  }
  if (!is_plain_name(there.host)) return no_ssh_destination(text);
  if (!port.empty() && !read_port(port.substr(1), there.port)) return no_ssh_destination(text);
  return there;
}

Result<HostPort> parse_data_address(std::string_view text) {
  bool brackets_alone = text.starts_with('[') && text.ends_with(']');
  if (brackets_alone || text.find(':') == std::string_view::npos) {
    VMHOP_ASSIGN(HostPort address, parse_host_port(std::string(text) + ":0"));
    if (address.host.empty()) return refusedf("--address needs HOST, HOST:PORT or :PORT");
    return address;
  }
  return parse_host_port(text);
}

Result<std::vector<std::string>> split_words(std::string_view text) {
  std::vector<std::string> words;
  bool in_word = false;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    bool blank = quote == 0 && (c == ' ' || c == '\t' || c == '\n');
    if (blank) {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
      words.back() += text[++i];
    } else if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else {
      words.back() += c;
    }
  }
  if (quote != 0) return refusedf("a quote ({}) in '{}' does not close", quote, text);
  return words;
}

Result<std::vector<std::string>> ssh_arguments(const std::string& ssh, const SshDestination& there,
                                               const std::string& remote_command) {
  VMHOP_ASSIGN(std::vector<std::string> arguments, split_words(ssh));
  if (arguments.empty()) return refusedf("the command of --ssh is empty");
  // The first mention of an option counts, so what the user has given stays. No terminal, no
  // question, no forwarding; and a link that is gone is noticed within 15 s.
  for (const char* option :
       {"-T", "-a", "-x", "-oBatchMode=yes", "-oConnectTimeout=15", "-oServerAliveInterval=5",
        "-oServerAliveCountMax=3", "-oClearAllForwardings=yes", "-oRemoteCommand=none"}) {
    arguments.emplace_back(option);
  }
  if (there.port != 0) {
    arguments.emplace_back("-p");
    arguments.push_back(std::to_string(there.port));
  }
  if (!there.user.empty()) {
    arguments.emplace_back("-l");
    arguments.push_back(there.user);
  }
  arguments.push_back(there.host);
  arguments.push_back(remote_command);
  return arguments;
}

}  // namespace vmhop
