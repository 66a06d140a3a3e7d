// What vmhop's exit code tells a script. `vmhop --help` prints the same list.
#pragma once

namespace vmhop {

enum ExitCode : int {
  kExitDone = 0,
  kExitFailed = 1,              // the message says what; the VM runs on unless it says otherwise
  kExitUsage = 2,               // the command line is wrong
  kExitEndedBeforeDrained = 3,  // relocated, but the VM ended there before it was drained
  kExitRefused = 4,             // a check made beforehand said no; nothing was changed
  kExitUnresolved = 5,          // committed, not drained, and nobody is left to drain it
  kExitDetached = 6,            // committed; draining goes on without this command
  kExitSupervisor = 125,        // run, receive, pager: vmhop itself failed; other codes are QEMU's
  kExitInterrupted = 130,       // aborted by Ctrl-C; the VM runs on where it was
};

inline constexpr const char* kExitCodeHelp =
    "Exit codes: 0 done (relocate: drained), 1 failed, 2 wrong usage, 3 relocated but the VM "
    "ended\n"
    "before it was drained, 4 refused beforehand and nothing changed, 5 committed but not drained\n"
    "and the exporter is gone, 6 detached after the commit, 130 aborted by Ctrl-C.\n"
    "run and receive exit with QEMU's own code (0 once the VM has left), 125 when vmhop failed; so "
    "does\n"
    "pager, with 1 when its QEMU ended without saying why.";

}  // namespace vmhop
