// What every page source promises (backend/page_source.h). An implementation is tested by
//
//   INSTANTIATE_TEST_SUITE_P(Tcp, PageSourceConformance, testing::Values(implementation), …);
//
// in a program that is linked to page_source_conformance.cc.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/page_source.h"
#include "tests/backend/memory_image.h"

namespace vmhop::testing_support {

// One implementation with the memory it serves, which is whatever the images say.
class SourceUnderTest {
 public:
  SourceUnderTest() = default;
  SourceUnderTest(const SourceUnderTest&) = delete;
  SourceUnderTest& operator=(const SourceUnderTest&) = delete;
  virtual ~SourceUnderTest() = default;

  // Where the pages of each region go, for page sources that write to files; not owned. Those
  // connected before receive into the targets.
  virtual void write_to(std::vector<int> /*memfds*/) {}
  virtual std::unique_ptr<PageSource> connect() = 0;
  // The other end of all connections goes.
  virtual void disconnect() = 0;
};

struct SourceImplementation {
  std::string name;
  std::function<std::unique_ptr<SourceUnderTest>(const std::vector<MemoryImage>&)> make;
  // Whether it sees that a page is all zeros. Otherwise such pages, and holes near others, may
  // arrive as data.
  bool sees_zeros = true;
};

inline void PrintTo(const SourceImplementation& param, std::ostream* out) {
  *out << param.name;
}

class PageSourceConformance : public testing::TestWithParam<SourceImplementation> {
 protected:
  PageSourceConformance();

  // A read of pages into the same place of the target memory.
  PageRead read_of(uint32_t region, uint64_t first_page, uint64_t pages);
  // Takes arrivals until every posted byte is there, and checks them.
  Status finish(PageSource& source, const std::vector<PageRead>& reads);
  Status read(PageSource& source, const std::vector<PageRead>& reads);
  // The target holds what the source has in exactly these pages, and is untouched elsewhere.
  void expect_target(const std::vector<PageRead>& reads);

  std::vector<MemoryImage> images_;
  std::vector<RamRegion> exported_;
  std::vector<UniqueFd> files_;
  std::vector<Mapping> targets_;  // of the files
  std::unique_ptr<SourceUnderTest> host_;
};

// Waits until the source has something to say; false when it stays silent.
inline bool wait_for(PageSource& source) {
  auto may_wait = source.may_wait();
  if (!may_wait || !*may_wait) return true;
  pollfd entry{source.wait_fd(), source.wait_events(), 0};
  return ::poll(&entry, 1, 20'000) == 1;
}

}  // namespace vmhop::testing_support
