/* The session and the commit of one relocation, for spin: every order in which messages arrive, the
 * link breaks, processes crash and QEMU resumes by itself, exhaustively.
 *
 *   spin -run -safety -DVECTORSZ=2048 commit.pml         (ctest -L model does it, with limits)
 *
 * The source's processes are in source.pml, the destination's in destination.pml.
 *
 * States have the names of the code: SourceState (backend/source_relocation.h), DestinationState
 * (backend/session/messages.h), Reception::Stage (cli/reception.h), and QEMU's own run states.
 *
 * What is left out: pages. A VM that runs at the destination is drained at any later moment at which
 * an exporter serves it. What is durable: the commit record (a file), the page map with the
 * destination's state (a file), the QEMUs. What a crash loses: everything else of that process.
 *
 * Claims, checked in every state:
 *   never two      the two QEMUs never both run the VM
 *   never dropped  nobody frees the memory, and nobody ends the source's QEMU for good, before the VM
 *                  runs whole at the destination or has ended there
 * and in every state in which nothing moves any more:
 *   never none     the VM runs on one side, or has ended, or its memory went with every process that
 *                  held it
 *
 * WITHOUT_… takes one precaution away; each must break a claim (CMakeLists.txt).
 *
 * Faults are bounded by the two numbers below, each fault at any moment. */
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef BREAKS
#define BREAKS 1
#endif

mtype = {
  /* SourceState, DestinationState, Reception::Stage */
  kPreparing, kPrepared, kReadPoint, kCommitted, kReturned, kAborted, kReleased,
  kLoaded, kDrained, kEnded, kLoading, kResuming, kRunning, kGivenBack,
  /* messages between the hosts */
  Prepare, Prepared, ReadPoint, Loaded, Commit, Running, Returned, Drained, Ended, Abort, Released,
  /* between the processes of a host */
  read_point, source_completed, abort, prepared, failed, committed, running, returned, drained,
  prepare, loaded, load_failed, commit, aborted, released, ended,
  /* what QEMU does */
  executing, pre_switchover, postmigrate, frozen, inmigrate, paused, gone
};

/* Between the hosts: one connection, in order; a broken one loses what is on its way. */
chan to_destination = [3] of { mtype };
chan to_source = [3] of { mtype };
bool broken = false;             /* nothing that is sent now arrives */
bool source_linked = true;       /* what either side believes */
bool destination_linked = true;
byte breaks = 0;

byte crashes = 0;

/* The source. */
mtype source_qemu = executing;
bool migrating = false;            /* its migration has not ended yet: it may fail, and resume */
bool record = false;               /* the commit record */
mtype recorded_outcome = kCommitted; /* ... and what it says */
bool exporter_up = true;
bool source_supervised = true;     /* the supervisor is there */
bool exporter_supervised = true;   /* this exporter's supervisor has not gone */
mtype source_state = kPreparing;
bool heard_loaded = false;
bool heard_completed = false;
chan to_exporter = [3] of { mtype };
chan from_exporter = [3] of { mtype };

/* The destination. */
mtype destination_qemu = inmigrate;
mtype destination_state = kPreparing; /* in the page map */
bool pager_up = true;
bool pager_supervised = true;
bool destination_supervised = true;
mtype stage = kLoading;
bool whole = false;                /* every page is here */
bool over = false;                 /* the VM ran here, and ended */
chan to_pager = [3] of { mtype };
chan from_pager = [3] of { mtype };
bool lost = false;                 /* the memory went with its last holder */

#define source_runs (source_qemu == executing)
#define destination_runs (destination_qemu == executing)
#define before_commit (source_state == kPreparing || source_state == kPrepared || \
                       source_state == kReadPoint)

inline never_two() { assert(!(source_runs && destination_runs)); }

/* A message that cannot arrive is gone. */
inline say(channel, message) {
  if
  :: broken -> skip
  :: else -> channel ! message
  fi
}

inline forget(channel, scratch) {
  do
  :: nempty(channel) -> channel ? scratch
  :: empty(channel) -> break
  od
}

/* Whoever holds the memory: an exporter, a supervisor, the source's QEMU. */
inline look_for_memory() {
  if
  :: !exporter_up && !source_supervised && source_qemu == gone && !whole && !over -> lost = true
  :: else -> skip
  fi
}

#include "source.pml"
#include "destination.pml"

/* Faults ---------------------------------------------------------------------------------------- */

proctype Faults() {
  mtype seen;
  do
  :: atomic { breaks < BREAKS && !broken -> breaks++; broken = true }
  :: atomic { crashes < CRASHES && exporter_up ->
       crashes++; exporter_up = false; forget(to_exporter, seen);
       broken = true; source_linked = false; look_for_memory() }
  :: atomic { crashes < CRASHES && source_supervised ->
       crashes++; source_supervised = false }
  :: atomic { crashes < CRASHES && pager_up ->
       crashes++; pager_up = false; forget(to_pager, seen);
       broken = true; destination_linked = false }
  :: atomic { crashes < CRASHES && destination_supervised ->
       crashes++; destination_supervised = false }
  :: crashes == CRASHES && breaks == BREAKS -> break
  :: true -> break
  od
}

/* Where nothing moves any more, the VM is somewhere. */
proctype Judge() {
  atomic { timeout ->
    assert(source_runs || destination_runs || over || lost);
    assert(!(source_runs && destination_runs));
    assert(!destination_runs || whole || lost) }
}

init {
  atomic {
    to_destination ! Prepare;
    run Exporter(); run SourceSupervisor(); run SourceQemu(); run Pager();
    run DestinationSupervisor(); run Faults(); run Judge()
  }
}
