#include "backend/commit_record.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using testing_support::must;

class CommitRecordFile : public testing::Test {
 protected:
  CommitRecordFile() {
    std::string name = testing::TempDir() + "vmhop-commit-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~CommitRecordFile() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& text) const { std::ofstream(directory_ + "/commit") << text; }

  std::string directory_;
  CommitRecord record_{{0xde, 0xad, 0xbe, 0xef, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255},
                       "[fe80::1%eth0]:4791",
                       RunState::kPaused};
};

TEST_F(CommitRecordFile, ComesBackAsItWasWritten) {
  must(write_commit_record(directory_, record_));
  EXPECT_EQ(must(read_commit_record(directory_)), record_);
  record_.before_stop = RunState::kRunning;
  record_.outcome = CommitOutcome::kReleased;
  must(write_commit_record(directory_, record_));
  EXPECT_EQ(must(read_commit_record(directory_)), record_);
  record_.outcome = CommitOutcome::kReturned;
  must(write_commit_record(directory_, record_));
  EXPECT_EQ(must(read_commit_record(directory_)), record_);
}

TEST_F(CommitRecordFile, IsForItsOwnerAloneAndLeavesNoDraft) {
  must(write_commit_record(directory_, record_));
  struct stat info {};
  ASSERT_EQ(::stat((directory_ + "/commit").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/commit.new"));
}

TEST_F(CommitRecordFile, IsNotThereBeforeTheDecision) {
  EXPECT_EQ(must(read_commit_record(directory_)), std::nullopt);
}

TEST_F(CommitRecordFile, GoesWhenItIsRemovedAndMayBeRemovedTwice) {
  must(write_commit_record(directory_, record_));
  must(remove_commit_record(directory_));
  EXPECT_EQ(must(read_commit_record(directory_)), std::nullopt);
  EXPECT_TRUE(remove_commit_record(directory_).ok());
}

TEST_F(CommitRecordFile, IsAnErrorWhenItCannotBeWritten) {
  EXPECT_FALSE(write_commit_record(directory_ + "/nowhere", record_).ok());
}

// Taken for a commit by whoever reads it; never for its absence, and never a crash.
TEST_F(CommitRecordFile, IsAnErrorWhenItIsDamaged) {
  const std::string id = to_hex(record_.relocation);
  for (const std::string& text : std::vector<std::string>{
           "", "garbage", "[]", "null", "{}", R"({"version":2})", R"({"version":"1"})",
           R"({"version":1,"relocation":5,"destination":"a:1","was_running":true})",
           R"({"version":1,"relocation":"12","destination":"a:1","was_running":true})",
           R"({"version":1,"relocation":")" + id.substr(0, 30) +
               R"( +","destination":"a:1","was_running":true})",
           R"({"version":1,"relocation":")" + id + R"(","was_running":true})",
           R"({"version":1,"relocation":")" + id + R"(","destination":[],"was_running":true})",
           R"({"version":1,"relocation":")" + id + R"(","destination":"a:1"})",
           R"({"version":1,"relocation":")" + id +
               R"(","destination":"a:1","was_running":3,"outcome":"pending"})",
           R"({"version":1,"relocation":")" + id + R"(","destination":"a:1","was_running":true})",
           R"({"version":1,"relocation":")" + id +
               R"(","destination":"a:1","was_running":true,"outcome":"lost"})"}) {
    write(text);
    EXPECT_FALSE(read_commit_record(directory_).ok()) << text;
  }
}

}  // namespace
}  // namespace vmhop
