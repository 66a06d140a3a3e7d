#include "backend/base/fd.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>

namespace vmhop {
namespace {

using testing::HasSubstr;

TEST(UniqueFd, ClosesWhatItOwnsOnce) {
  int raw = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  {
    UniqueFd fd(raw);
    UniqueFd moved = std::move(fd);
    EXPECT_EQ(moved.get(), raw);
  }
  EXPECT_EQ(::fcntl(raw, F_GETFD), -1);
}

TEST(Memfd, HasTheSizeAskedForAndKeepsIt) {
  auto fd = create_memfd("test", 1 << 20);
  ASSERT_TRUE(fd.ok());
  EXPECT_NE(::ftruncate(fd->get(), 4096), 0);
  struct stat info {};
  ASSERT_EQ(::fstat(fd->get(), &info), 0);
  EXPECT_EQ(info.st_size, 1 << 20);
}

TEST(FdPassing, CarriesDescriptorsCloseOnExec) {
  auto pair = socket_pair(SOCK_SEQPACKET).value();
  auto memfd = create_memfd("passed", 4096).value();
  std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
  std::array<int, 1> fds{memfd.get()};
  ASSERT_TRUE(send_with_fds(pair.first.get(), bytes, fds).ok());
  auto received = receive_with_fds(pair.second.get(), 100);
  ASSERT_TRUE(received.ok());
  EXPECT_EQ(received->bytes.size(), 3U);
  ASSERT_EQ(received->fds.size(), 1U);
  EXPECT_EQ(::fcntl(received->fds[0].get(), F_GETFD), FD_CLOEXEC);
}

TEST(FdPassing, SaysWhenThePeerIsGone) {
  auto pair = socket_pair(SOCK_SEQPACKET).value();
  pair.first.reset();
  auto received = receive_with_fds(pair.second.get(), 100);
  ASSERT_FALSE(received.ok());
  EXPECT_EQ(received.error().kind(), ErrorKind::kClosed);
}

TEST(UnixSockets, RefuseAPathThatDoesNotFitAndSaySo) {
  auto listening = listen_unix("/tmp/" + std::string(120, 'x'), SOCK_STREAM);
  ASSERT_FALSE(listening.ok());
  EXPECT_THAT(listening.error().message(), HasSubstr("Use a shorter directory"));
}

TEST(UnixSockets, AreForTheOwnerAlone) {
  std::string path = testing::TempDir() + "vmhop-fd-test.sock";
  auto listening = listen_unix(path, SOCK_STREAM);
  ASSERT_TRUE(listening.ok());
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  EXPECT_TRUE(connect_unix(path, SOCK_STREAM).ok());
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace vmhop
