// The supervisor's control socket, where descriptors are lacking.
#include "cli/control_server.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <filesystem>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using testing_support::must;

constexpr int kPatienceMs = 10'000;

class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest() : loop_(must(EventLoop::create())) {
    char directory[] = "/tmp/vmhop-control-XXXXXX";
    directory_ = ::mkdtemp(directory);
    ControlServer::Callbacks callbacks;
    callbacks.on_request = [this](ControlServer::ClientId id, const ControlMessage& message) {
      server_->send(id, {{"to", message.body.at("cmd")}});
    };
    callbacks.on_gone = [this](ControlServer::ClientId) { ++gone_; };
    server_ = must(ControlServer::start(*loop_, directory_ + "/socket", callbacks));
  }
  ~ControlServerTest() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  nlohmann::json answer_to(ControlChannel& client) {
    for (;;) {
      auto answer = client.receive(0);
      if (answer) return answer->body;
      EXPECT_EQ(answer.error().kind(), ErrorKind::kTimedOut) << answer.error().message();
      if (answer.error().kind() != ErrorKind::kTimedOut) return {};
      EXPECT_TRUE(loop_->run_once(kPatienceMs).ok());
    }
  }

  // While it lives, this process can open nothing.
  class NoDescriptors {
   public:
    NoDescriptors() {
      EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
      UniqueFd lowest(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      rlimit none{static_cast<rlim_t>(lowest.get()), before_.rlim_max};
      lowest.reset();
      EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    }
    ~NoDescriptors() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }

   private:
    rlimit before_{};
  };

  std::unique_ptr<EventLoop> loop_;
  std::string directory_;
  std::unique_ptr<ControlServer> server_;
  int gone_ = 0;
};

TEST_F(ControlServerTest, AnswersWhereNoDescriptorIsLeft) {
  auto client = must(ControlChannel::connect(directory_ + "/socket"));
  NoDescriptors none;
  ASSERT_TRUE(client.send({{"cmd", "status"}}).ok());
  EXPECT_EQ(answer_to(client), nlohmann::json({{"to", "status"}}));
}

TEST_F(ControlServerTest, SaysThatItCannotTakeADescriptor) {
  UniqueFd key(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  auto client = must(ControlChannel::connect(directory_ + "/socket"));
  {
    NoDescriptors none;
    ASSERT_TRUE(client.send({{"cmd", "relocate"}}, std::vector<int>{key.get()}).ok());
    nlohmann::json answer = answer_to(client);
    EXPECT_EQ(answer.value("event", ""), "error") << answer;
    EXPECT_THAT(answer.value("message", ""), testing::HasSubstr("Too many open files"));
  }
  EXPECT_EQ(gone_, 1);
  // It has its reserve back.
  auto next = must(ControlChannel::connect(directory_ + "/socket"));
  NoDescriptors none;
  ASSERT_TRUE(next.send({{"cmd", "status"}}).ok());
  EXPECT_EQ(answer_to(next), nlohmann::json({{"to", "status"}}));
}

}  // namespace
}  // namespace vmhop
