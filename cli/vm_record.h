// vm.json in a VM's runtime directory: who belongs to this VM and how it was started. Written by
// the supervisor at each change, read by whoever finds its directory later.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "backend/transport_choice.h"
#include "cli/child_process.h"
#include "cli/credentials_choice.h"

namespace vmhop {

struct RegionRecord {
  std::string id;
  uint64_t size = 0;
  uint32_t page_size = 0;
  uint64_t address = 0;  // in QEMU, of a VM that arrives; 0 elsewhere
  bool operator==(const RegionRecord&) const = default;
};

uint64_t ram_bytes(const std::vector<RegionRecord>& regions);
// What a page of such a VM is on average: exact where all of its regions have pages of one size.
uint64_t page_bytes(const std::vector<RegionRecord>& regions);

struct VmRecord {
  std::string vm;
  std::string role;  // "run" or "receive"
  ProcessIdentity supervisor;
  // pid 0: none.
  ProcessIdentity qemu;
  ProcessIdentity exporter;
  ProcessIdentity pager;
  std::vector<std::string> argv;  // what the user asked for, QEMU's program first
  std::vector<RegionRecord> regions;
  std::string peer;   // where the VM goes to, or came from
  std::string front;  // "preload" or "object"
  // Of one that is received: as its command line had it.
  std::string listen;             // HOST:PORT, with the port that was found
  CredentialsChoice credentials;  // the files, never what is in them
  TransportPolicy transport;
};

// Replaces the file in one step: a reader sees the old one or the new one.
Status write_vm_record(const std::string& directory, const VmRecord& record);
// Nothing when there is no readable record.
std::optional<VmRecord> read_vm_record(const std::string& directory);

}  // namespace vmhop
