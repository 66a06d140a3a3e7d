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
 * Operators decide (`vmhop resolve`) whenever the command is accepted: as often as they are right, and
 * WRONG times when they are not. What "right" is: right_… below.
 *
 * Claims, checked in every state:
 *   never two      the two QEMUs never both run the VM, unless an operator had it run wrongly
 *   never dropped  nobody frees the memory, and nobody ends the source's QEMU for good, before the VM
 *                  runs whole at the destination or has ended there, unless an operator said so
 * and in every state in which nothing moves any more:
 *   never none     the VM runs on one side, or has ended, or its memory went with every process that
 *                  held it, or it was wrongly given away
 *   undone         a VM that was wrongly run runs on one side only, unless it was whole at the
 *                  destination, or the exporter that had to tell the destination has died
 *   decided        nobody is in doubt any more about a host that is dead
 *   heard          no pager waits for a source that has heard it, unless the exporter has died
 *
 * WITHOUT_… takes one precaution away; each must break a claim (CMakeLists.txt).
 *
 * Faults and wrong decisions are bounded by the numbers below, each at any moment. */
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef BREAKS
#define BREAKS 1
#endif
#ifndef HOSTS /* that die */
#define HOSTS 0
#endif
#ifndef WRONG
#define WRONG 0
#endif
#ifndef DECISIONS /* 0: of the right ones only that without which the VM would stay nowhere */
#define DECISIONS 1
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
  revoke, commit_by_operator,
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

/* Operators. */
byte wrong = 0;                  /* decisions */
bool wrongly_run = false;        /* ... that it runs here */
bool wrongly_given = false;      /* ... that it is the other host's */
bool teller_died = false;        /* the exporter that would tell the destination of a roll back */
bool exporter_died = false;      /* and nobody has started it again */
byte hosts_died = 0;
bool source_dead = false;
bool destination_dead = false;
bool died = false;               /* the VM, with the host that it ran on */

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
bool running_there = false;        /* the exporter has heard it */
bool revoked = false;              /* an operator has it run here, as the supervisor knows */
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
bool heard_drained = false;        /* the supervisor has: the pager is on its own */
bool released_here = false;        /* in the page map: the source has heard how it ended */
bool in_doubt = false;             /* the pager has said so */
chan to_pager = [3] of { mtype };
chan from_pager = [3] of { mtype };
bool lost = false;                 /* the memory went with its last holder */

#define source_runs (source_qemu == executing)
#define destination_runs (destination_qemu == executing)
#define pager_waits (pager_up && (destination_state == kDrained || destination_state == kEnded || \
                                  destination_state == kReturned))
#define before_commit (source_state == kPreparing || source_state == kPrepared || \
                       source_state == kReadPoint)

/* An operator is right who knows these of the other host. */
#define right_to_run_at_source (destination_qemu == gone)
#define right_to_give_away (DECISIONS && (destination_runs || over))
#define right_to_run_at_destination \
  (DECISIONS && (source_qemu == gone || \
                 (record && recorded_outcome == kCommitted && !wrongly_run)))
#define right_to_give_back (DECISIONS && source_qemu != gone)

inline decides(is_right, wrongly) {
  if
  :: is_right -> skip
  :: else -> wrong++; wrongly = true
  fi
}

inline never_two() { assert(!(source_runs && destination_runs) || wrongly_run); }

/* A message that cannot arrive is gone. */
inline say(channel, message) {
  if
  :: broken -> skip
  :: else -> channel ! message
  fi
}

inline forget(channel) {
  do
  :: nempty(channel) -> channel ? _
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

/* A host that dies takes its records with it, which are in a tmpfs. */
inline source_dies() {
  source_dead = true;
  exporter_up = false; exporter_died = true; source_supervised = false; source_linked = false;
  record = false;
  broken = true;
  forget(to_exporter);
  forget(from_exporter);
  died = died || source_runs;
  source_qemu = gone;
  migrating = false;
  look_for_memory()
}

inline destination_dies() {
  destination_dead = true;
  pager_up = false; destination_supervised = false; destination_linked = false;
  broken = true;
  forget(to_pager);
  forget(from_pager);
  died = died || destination_runs;
  destination_qemu = gone
}

proctype Faults() {
  do
  :: atomic { breaks < BREAKS && !broken -> breaks++; broken = true }
  :: atomic { crashes < CRASHES && exporter_up ->
       crashes++; exporter_up = false; exporter_died = true; forget(to_exporter);
       broken = true; source_linked = false; look_for_memory(); teller_died = (WRONG > 0) }
  :: atomic { crashes < CRASHES && source_supervised ->
       crashes++; source_supervised = false }
  :: atomic { crashes < CRASHES && pager_up ->
       crashes++; pager_up = false; forget(to_pager);
       broken = true; destination_linked = false }
  :: atomic { crashes < CRASHES && destination_supervised ->
       crashes++; destination_supervised = false }
  :: atomic { hosts_died < HOSTS && !source_dead -> hosts_died++; source_dies() }
  :: atomic { hosts_died < HOSTS && !destination_dead -> hosts_died++; destination_dies() }
  :: crashes == CRASHES && breaks == BREAKS && hosts_died == HOSTS -> break
  :: true -> break
  od
}

/* Where nothing moves any more, the VM is somewhere. */
proctype Judge() {
  atomic { timeout ->
    assert(source_runs || destination_runs || over || lost || died || wrongly_given);
    assert(!(source_runs && destination_runs) || (wrongly_run && (whole || teller_died)));
    assert(!destination_runs || whole || lost || source_runs);
    assert(!pager_waits || exporter_died || wrongly_run);
    assert(!(source_dead && destination_supervised && stage == kLoaded));
    assert(!(destination_dead && source_supervised && source_qemu == frozen)) }
}

init {
  atomic {
    to_destination ! Prepare;
    run Exporter(); run SourceSupervisor(); run SourceQemu(); run Pager();
    run DestinationSupervisor(); run Faults(); run Judge()
  }
}
