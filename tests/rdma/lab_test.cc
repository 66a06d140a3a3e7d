// What the other tests in this folder rely on: ci/rxe-lab keeps its promises.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <infiniband/verbs.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backend/userfault.h"

namespace vmhop {
namespace {

using Context = std::unique_ptr<ibv_context, decltype(&ibv_close_device)>;

std::vector<Context> open_devices() {
  std::vector<Context> opened;
  int count = 0;
  std::unique_ptr<ibv_device*, decltype(&ibv_free_device_list)> devices(ibv_get_device_list(&count),
                                                                        &ibv_free_device_list);
  for (int i = 0; i < count; ++i) {
    Context context(ibv_open_device(devices.get()[i]), &ibv_close_device);
    if (context) opened.push_back(std::move(context));
  }
  return opened;
}

// RoCE knows an IPv4 address as the GID that IPv6 maps it to.
std::array<uint8_t, 16> gid_of(const std::string& ipv4) {
  std::array<uint8_t, 16> gid{};
  gid[10] = gid[11] = 0xff;
  ::inet_pton(AF_INET, ipv4.c_str(), &gid[12]);
  return gid;
}

bool has_gid(const Context& context, const std::array<uint8_t, 16>& wanted) {
  ibv_port_attr port{};
  if (ibv_query_port(context.get(), 1, &port) != 0) return false;
  for (int index = 0; index < port.gid_tbl_len; ++index) {
    ibv_gid gid{};
    if (ibv_query_gid(context.get(), 1, index, &gid) != 0) continue;
    if (std::equal(wanted.begin(), wanted.end(), gid.raw)) return true;
  }
  return false;
}

TEST(Lab, HasAnRdmaDeviceWithAnActivePort) {
  auto devices = open_devices();
  EXPECT_TRUE(std::any_of(devices.begin(), devices.end(), [](const Context& context) {
    ibv_port_attr port{};
    return ibv_query_port(context.get(), 1, &port) == 0 && port.state == IBV_PORT_ACTIVE;
  }));
}

TEST(Lab, SaysTheAddressOfItsDevice) {
  const char* address = std::getenv("VMHOP_RDMA_ADDRESS");
  ASSERT_NE(address, nullptr);
  auto devices = open_devices();
  EXPECT_TRUE(std::any_of(devices.begin(), devices.end(), [&](const Context& context) {
    return has_gid(context, gid_of(address));
  })) << address;
}

TEST(Lab, LetsMemoryBeRegisteredWithoutALimit) {
  rlimit locked{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &locked), 0);
  EXPECT_EQ(locked.rlim_cur, RLIM_INFINITY);
}

TEST(Lab, OffersMinorFaultsOnSharedMemory) {
  auto userfault = Userfault::open();
  EXPECT_TRUE(userfault.ok()) << userfault.error().message();
}

}  // namespace
}  // namespace vmhop
