#include "tests/cli/scripted_qemu.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace vmhop {

using nlohmann::json;

ScriptedQemu::ScriptedQemu(std::string socket_path) : path_(std::move(socket_path)) {
  for (const char* name : {"x-ignore-shared", "return-path", "events", "late-block-activate",
                           "pause-before-switchover", "multifd"}) {
    capabilities_[name] = false;
  }
  listening_ = listen_unix(path_, SOCK_STREAM).value();
  auto wake = socket_pair(SOCK_STREAM).value();
  wake_read_ = std::move(wake.first);
  wake_write_ = std::move(wake.second);
  thread_ = std::thread([this] { serve(); });
}

ScriptedQemu::~ScriptedQemu() {
  exit();
  if (thread_.joinable()) thread_.join();
}

void ScriptedQemu::on(const std::string& command, Handler handler) {
  std::lock_guard lock(mutex_);
  handlers_[command] = std::move(handler);
}

void ScriptedQemu::set_run_state(const std::string& state) {
  std::lock_guard lock(mutex_);
  run_state_ = state;
}

std::string ScriptedQemu::run_state() const {
  std::lock_guard lock(mutex_);
  return run_state_;
}

std::vector<std::string> ScriptedQemu::commands() const {
  std::lock_guard lock(mutex_);
  return commands_;
}

size_t ScriptedQemu::count(const std::string& command) const {
  auto all = commands();
  return static_cast<size_t>(std::count(all.begin(), all.end(), command));
}

void ScriptedQemu::exit() {
  std::lock_guard lock(mutex_);
  wake_write_.reset();
  if (client_.valid()) ::shutdown(client_.get(), SHUT_RDWR);
}

void ScriptedQemu::event(const std::string& name, const json& data) {
  send({{"event", name},
        {"data", data},
        {"timestamp", {{"seconds", 1700000000}, {"microseconds", 5}}}});
}

void ScriptedQemu::migration_event(const std::string& status) {
  {
    std::lock_guard lock(mutex_);
    migration_ = status;
  }
  event("MIGRATION", {{"status", status}});
}

void ScriptedQemu::send(const json& line) {
  std::lock_guard lock(mutex_);
  std::string text = line.dump() + "\r\n";
  if (client_.valid()) (void)::send(client_.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

void ScriptedQemu::serve() {
  for (;;) {
    std::array<pollfd, 2> polled{{{wake_read_.get(), POLLIN, 0}, {listening_.get(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0) continue;
    if (polled[0].revents != 0) return;
    UniqueFd client(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    int fd = client.get();
    {
      std::lock_guard lock(mutex_);
      client_ = std::move(client);
    }
    send({{"QMP",
           {{"version", {{"qemu", {{"major", 7}, {"minor", 2}, {"micro", 22}}}}},
            {"capabilities", json::array()}}}});
    serve_client(fd);
    std::lock_guard lock(mutex_);
    client_.reset();
  }
}

void ScriptedQemu::serve_client(int client) {
  std::string partial;
  std::array<char, 4096> chunk{};
  for (;;) {
    ssize_t got = ::recv(client, chunk.data(), chunk.size(), 0);
    if (got <= 0) return;
    partial.append(chunk.data(), static_cast<size_t>(got));
    for (size_t end = 0; (end = partial.find('\n')) != std::string::npos;
         partial.erase(0, end + 1)) {
      answer(json::parse(partial.substr(0, end)));
    }
  }
}

void ScriptedQemu::answer(const json& request) {
  std::string command = request.at("execute");
  json arguments = request.value("arguments", json::object());
  Handler handler;
  {
    std::lock_guard lock(mutex_);
    commands_.push_back(command);
    if (auto it = handlers_.find(command); it != handlers_.end()) handler = it->second;
  }
  auto result = handler ? handler(arguments) : default_answer(command, arguments);
  if (!result) return;
  json reply = {{"id", request.at("id")}};
  if (result->is_object() && result->contains("error")) {
    reply["error"] = (*result)["error"];
  } else {
    reply["return"] = *result;
  }
  send(reply);
}

std::optional<json> ScriptedQemu::default_answer(const std::string& command,
                                                 const json& arguments) {
  std::lock_guard lock(mutex_);
  if (command == "query-status") {
    return json{{"status", run_state_}, {"running", run_state_ == "running"}};
  }
  if (command == "query-migrate") return json{{"status", migration_}};
  if (command == "query-migrate-capabilities") {
    json list = json::array();
    for (const auto& [name, state] : capabilities_)
      list.push_back({{"capability", name}, {"state", state}});
    return list;
  }
  if (command == "migrate-set-capabilities") {
    for (const auto& entry : arguments.at("capabilities"))
      capabilities_[entry.at("capability")] = entry.at("state");
    return json::object();
  }
  if (command == "query-migrate-parameters") return json{{"max-bandwidth", 134217728}};
  if (command == "query-memdev") {
    return json::array({{{"id", "vmhop-ram"}, {"size", 8192}, {"share", true}}});
  }
  if (command == "qom-get") return json("pc-q35-7.2-machine");
  if (command == "migrate") {
    resume_after_cancel_ = run_state_ == "running";
    migration_event("setup");
    migration_event("active");
    if (run_state_ == "running") event("STOP");
    run_state_ = "finish-migrate";
    migration_event("pre-switchover");
  } else if (command == "migrate-continue") {
    migration_event("device");
    run_state_ = "postmigrate";
    migration_event("completed");
  } else if (command == "migrate_cancel") {
    migration_event("cancelled");
    run_state_ = resume_after_cancel_ ? "running" : "postmigrate";
  } else if (command == "cont") {
    run_state_ = "running";
    event("RESUME");
  }
  return json::object();
}

}  // namespace vmhop
