// A QEMU that is nothing but its monitor: answers QMP as QEMU 7.2 does while it migrates, unless a
// test says otherwise.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backend/base/fd.h"

namespace vmhop {

class ScriptedQemu {
 public:
  // Returns what goes into "return", or {"error": …} for an error; nothing: no answer at all.
  using Handler = std::function<std::optional<nlohmann::json>(const nlohmann::json& arguments)>;

  explicit ScriptedQemu(std::string socket_path);
  ~ScriptedQemu();
  ScriptedQemu(const ScriptedQemu&) = delete;
  ScriptedQemu& operator=(const ScriptedQemu&) = delete;

  const std::string& path() const { return path_; }

  // Before a client connects.
  void on(const std::string& command, Handler handler);
  void set_run_state(const std::string& state);

  // Any time, from any thread.
  void event(const std::string& name, const nlohmann::json& data = nlohmann::json::object());
  void migration_event(const std::string& status);
  std::string run_state() const;
  std::vector<std::string> commands() const;
  size_t count(const std::string& command) const;
  // The monitor closes, as if the process had ended.
  void exit();

 private:
  void serve();
  void serve_client(int client);
  void answer(const nlohmann::json& request);
  std::optional<nlohmann::json> default_answer(const std::string& command,
                                               const nlohmann::json& arguments);
  void send(const nlohmann::json& line);

  std::string path_;
  UniqueFd listening_;
  UniqueFd wake_read_;
  UniqueFd wake_write_;
  mutable std::recursive_mutex mutex_;  // guards everything below
  UniqueFd client_;
  std::map<std::string, Handler> handlers_;
  std::vector<std::string> commands_;
  std::string run_state_ = "running";
  std::string migration_ = "none";
  bool resume_after_cancel_ = false;
  std::map<std::string, bool> capabilities_;
  std::thread thread_;
};

inline nlohmann::json qmp_error(const std::string& description) {
  return {{"error", {{"class", "GenericError"}, {"desc", description}}}};
}

}  // namespace vmhop
