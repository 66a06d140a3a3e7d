// The source after its commit, against a destination that is a few lines of a test.
#include "backend/source_relocation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "tests/backend/memory_image.h"
#include "tests/cli/temporary_directory.h"
#include "tests/session/acceptor_fixture.h"

namespace vmhop {
namespace {

using testing_support::kPatience;
using testing_support::kRelocation;
using testing_support::must;

constexpr const char* kVm = "web";

class ACommittedSource : public testing_support::AnAcceptor {
 protected:
  void SetUp() override {
    AnAcceptor::SetUp();
    SourceRelocation::Options options;
    options.destination = address_;
    options.runtime_dir = directory_.path();
    options.committed = CommitRecord{kRelocation, address_.to_string(), RunState::kRunning,
                                     CommitOutcome::kPending};
    options.hello.relocation = kRelocation;
    options.hello.vm = kVm;
    options.hello.data = DataProtection::kPlain;
    options.hello.fault_lanes = 1;
    options.hello.bulk_lanes = 2;
    options.hello.regions = {image_.info()};
    must(write_commit_record(directory_.path(), *options.committed));
    std::vector<RamRegion> regions;
    regions.push_back(image_.exported());
    source_ = must(SourceRelocation::start(
        *loop_, std::move(options), key_.clone(), std::move(regions),
        [this](const nlohmann::json& event) { told_.push_back(event.value("event", "")); }));
    running_ = std::async(std::launch::async, [this] { return loop_->run(); });
  }

  void TearDown() override {
    loop_->stop();
    running_.wait();
    source_.reset();
  }

  // A source that dials.
  void answer() {
    acceptor_->forget_lanes(kRelocation);
    std::optional<AcceptedSession> session;
    while (!session) {
      auto arrived = arrivals_.next();
      ASSERT_TRUE(arrived.has_value()) << "nobody dials";
      if (auto* found = std::get_if<AcceptedSession>(&*arrived)) session = std::move(*found);
    }
    lane_secret_ = must(session->stream->export_secret(kLaneSecretLabel));
    session_ = MessageStream::create(std::move(session->stream));
    hello_ = std::get<Hello>(must(session_->receive_blocking(kPatience)));
  }

  void welcome(DestinationState state) {
    answer();
    auto lanes =
        make_lane_ids(kRelocation, hello_.fault_lanes, hello_.bulk_lanes, hello_.lane_generation);
    must(acceptor_->expect_lanes(lanes, lane_secret_, hello_.data));
    must(session_->send(Welcome{kProtocolVersion, state, false, ""}));
  }

  // The next message of this kind, which the source has to send.
  template <typename Kind>
  Kind next() {
    for (;;) {
      Message message = must(session_->receive_blocking(kPatience));
      if (auto* wanted = std::get_if<Kind>(&message)) return std::move(*wanted);
    }
  }

  // In the source's thread, where everything that was sent before has been read.
  template <typename Ask>
  auto in_its_thread(Ask ask) {
    std::promise<decltype(ask())> answered;
    loop_->post([&] { answered.set_value(ask()); });
    return answered.get_future().get();
  }

  // It has read whatever was sent to it: it answers in order.
  void wait_until_read() {
    must(session_->send(Ping{7}));
    while (next<Pong>().cookie != 7) {
    }
  }

  bool was_told(const std::string& event) {
    return in_its_thread([&] { return std::count(told_.begin(), told_.end(), event) > 0; });
  }

  CommitOutcome outcome() const { return must(read_commit_record(directory_.path()))->outcome; }

  // Its process would end.
  bool ends() {
    return running_.wait_for(std::chrono::milliseconds(kPatience)) == std::future_status::ready;
  }

  TemporaryDirectory directory_;
  testing_support::MemoryImage image_{64, 1, testing_support::all_data};
  std::unique_ptr<EventLoop> loop_ = must(EventLoop::create());
  std::vector<std::string> told_;  // in the loop's thread
  std::unique_ptr<SourceRelocation> source_;
  std::future<Status> running_;
  std::unique_ptr<MessageStream> session_;
  Hello hello_;
};

// Its supervisor may not have read that yet, and pass on what an operator decided before it.
TEST_F(ACommittedSource, TakesNothingBackOnceItHasHeardThatTheVmRuns) {
  welcome(DestinationState::kCommitted);
  next<Commit>();
  must(session_->send(Running{1000}));
  wait_until_read();
  SourceState after = in_its_thread([this] {
    source_->revoke();
    return source_->state();
  });
  EXPECT_EQ(after, SourceState::kCommitted);
  EXPECT_FALSE(was_told("returned"));
  EXPECT_EQ(outcome(), CommitOutcome::kPending);
}

TEST_F(ACommittedSource, TakesTheVmBackBeforeItHasHeardThat) {
  welcome(DestinationState::kCommitted);
  next<Commit>();
  in_its_thread([this] {
    source_->revoke();
    return true;
  });
  next<Abort>();
  EXPECT_TRUE(was_told("returned"));
  EXPECT_EQ(outcome(), CommitOutcome::kReturned);
}

struct Ending {
  const char* name;
  Message heard;
  CommitOutcome recorded;
};

void PrintTo(const Ending& ending, std::ostream* out) {
  *out << ending.name;
}

class WhatHasEnded : public ACommittedSource, public testing::WithParamInterface<Ending> {
 protected:
  void hear() {
    welcome(DestinationState::kCommitted);
    next<Commit>();
    must(session_->send(GetParam().heard));
    next<Released>();
    EXPECT_EQ(outcome(), GetParam().recorded);
  }
};

TEST_P(WhatHasEnded, IsOverWhenTheDestinationHasAnswered) {
  hear();
  must(session_->send(Released{}));
  EXPECT_TRUE(ends());
}

// A pager that dies with the answer unread has a successor, which asks again.
TEST_P(WhatHasEnded, IsSaidAgainUntilTheDestinationAnswers) {
  hear();
  session_.reset();
  welcome(DestinationState::kDrained);
  EXPECT_TRUE(hello_.resumed);
  must(session_->send(GetParam().heard));
  next<Released>();
  must(session_->send(Released{}));
  EXPECT_TRUE(ends());
}

TEST_P(WhatHasEnded, IsOverWhenNobodyThereKnowsOfIt) {
  hear();
  session_.reset();
  answer();
  must(session_->send(Refuse{"it was started anew since"}));
  EXPECT_TRUE(ends());
}

INSTANTIATE_TEST_SUITE_P(OnceItIs, WhatHasEnded,
                         testing::Values(Ending{"Drained", Drained{1000}, CommitOutcome::kReleased},
                                         Ending{"Ended", Ended{"it was shut down"},
                                                CommitOutcome::kReleased},
                                         Ending{"Returned", Returned{"QEMU could not continue it"},
                                                CommitOutcome::kReturned}),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST_F(ACommittedSource, DoesNotTakeAnAnswerBeforeItHasSaidAnything) {
  welcome(DestinationState::kCommitted);
  next<Commit>();
  must(session_->send(Released{}));
  welcome(DestinationState::kCommitted);  // it dials anew
  next<Commit>();
  EXPECT_EQ(outcome(), CommitOutcome::kPending);
}

}  // namespace
}  // namespace vmhop
