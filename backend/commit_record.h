// The source's decision about a VM, on disk before anyone acts on it.
#pragma once

#include <optional>
#include <string>

#include "backend/base/result.h"
#include "backend/session/messages.h"

namespace vmhop {

// What became of it. The record is never simply removed by who serves the memory: a supervisor that
// died may have left a QEMU frozen here, and whoever finds that one has to know.
enum class CommitOutcome {
  kPending,   // the destination needs this host's memory, or may
  kReleased,  // it has all of it, or the VM has ended there: it must never run here again
  kReturned,  // it never ran there and never will: it is this host's again
};
const char* commit_outcome_name(CommitOutcome outcome);

// The file "commit" in the VM's runtime directory. While it is there the source must not run the
// VM. It has to outlive processes, not the host: with the host the VM's memory is gone as well,
// which is why a tmpfs is good enough.
struct CommitRecord {
  RelocationId relocation{};
  std::string destination;  // host:port, for people
  RunState before_stop = RunState::kRunning;
  CommitOutcome outcome = CommitOutcome::kPending;
  bool operator==(const CommitRecord&) const = default;
};

// On disk, file and directory synced, when it returns.
Status write_commit_record(const std::string& runtime_dir, const CommitRecord& record);
// Empty when there is none; an unreadable one is an error, and to be taken for a commit.
Result<std::optional<CommitRecord>> read_commit_record(const std::string& runtime_dir);
// The VM came back (returned), or no QEMU is left here that could run it.
Status remove_commit_record(const std::string& runtime_dir);

std::string to_hex(const RelocationId& id);
Result<RelocationId> relocation_id_from_hex(const std::string& text);

}  // namespace vmhop
