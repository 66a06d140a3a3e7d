// A receiver at another host, started over ssh, as the source sees it. It lives there for as long
// as this object does, or for good from the moment the VM runs there.
//
// One thread owns it.
#pragma once

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "backend/session/key.h"
#include "cli/child_process.h"
#include "cli/receive_request.h"

namespace vmhop {

class RemoteReceiver {
 public:
  using Clock = std::chrono::steady_clock;
  // How often renew() is to be called.
  static constexpr std::chrono::milliseconds kRenewEvery{2'000};

  struct Ready {
    std::string address;  // by which ssh has reached that host, if it knows
    uint16_t port = 0;
  };

  // `ssh` is what to execute; `host` is what the other host is called in messages.
  static Result<std::unique_ptr<RemoteReceiver>> start(const std::vector<std::string>& ssh,
                                                       std::string host,
                                                       const ReceiveRequest& request,
                                                       const Secret& key);
  // Lets go, and does not wait.
  ~RemoteReceiver();
  RemoteReceiver(const RemoteReceiver&) = delete;
  RemoteReceiver& operator=(const RemoteReceiver&) = delete;

  // Readable when update() has something to do.
  int fd() const { return events_.get(); }
  void update();
  // Says that somebody is there still.
  void renew();

  // Once it waits for the VM.
  const std::optional<Ready>& ready() const { return ready_; }
  // ssh has ended: the receiver too, or it stays for good.
  bool gone() const { return ended_.has_value(); }
  // Why, when that was not wanted: cause and remedy.
  Error why_gone() const;
  // What the receiver, its QEMU among them, wrote last, if it failed.
  std::string last_words() const;

  // It is not needed any more, or needs nobody any more.
  void let_go() { lifeline_.reset(); }

 private:
  RemoteReceiver(std::string host, std::shared_ptr<ChildProcess> ssh)
      : host_(std::move(host)), ssh_(std::move(ssh)) {}
  Status watch(int fd);
  void read_output();
  void read_errors();
  void on_line(const std::string& line);
  bool open() const { return output_.valid() || errors_.valid(); }

  std::string host_;
  std::shared_ptr<ChildProcess> ssh_;
  UniqueFd events_;    // an epoll of the three that follow
  UniqueFd output_;    // ssh's
  UniqueFd errors_;    // ssh's
  UniqueFd lifeline_;  // ssh's input
  Clock::time_point renewed_{};
  std::string line_;   // the beginning of one
  std::string noise_;  // what ssh, or a login shell, wrote besides
  std::optional<Ready> ready_;
  nlohmann::json failure_;
  std::optional<ExitStatus> ended_;
};

}  // namespace vmhop
