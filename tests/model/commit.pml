/* The session and the commit of one relocation, for spin: every order in which messages arrive, the
 * link breaks, processes crash and QEMU resumes by itself, exhaustively.
 *
 *   spin -run -safety -DVECTORSZ=2048 commit.pml         (ctest -L model does it, with limits)
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

/* The exporter -------------------------------------------------------------------------------- */

inline exporter_tells(event) {
  if
  :: exporter_supervised -> from_exporter ! event
  :: else -> skip
  fi
}

inline exporter_fails() { /* SourceRelocation::fail() */
  source_state = kAborted;
  exporter_tells(failed);
  if
  :: source_linked -> say(to_destination, Abort)
  :: else -> skip
  fi
}

inline exporter_decides() { /* decide_when_ready() */
  if
#ifdef WITHOUT_SOURCE_COMPLETED
  :: source_state == kReadPoint && heard_loaded && source_linked ->
#else
  :: source_state == kReadPoint && heard_loaded && heard_completed && source_linked ->
#endif
#ifndef WITHOUT_RECORD_FIRST
     record = true;
     recorded_outcome = kCommitted;
#endif
     source_state = kCommitted;
     say(to_destination, Commit);
     exporter_tells(committed)
  :: else -> skip
  fi
}

inline exporter_leaves() {
  exporter_up = false;
  forget(to_exporter, seen)
}

proctype Exporter() {
  mtype message, seen;
  do
  /* The loop serves its supervisor first: a read point overtakes what comes after it. */
  :: atomic { exporter_up && nempty(to_exporter) ->
       to_exporter ? message;
       if
       :: message == read_point && source_state == kPrepared ->
          source_state = kReadPoint;
          say(to_destination, ReadPoint)
       :: message == source_completed -> heard_completed = true; exporter_decides()
       :: message == abort && before_commit -> exporter_fails()
       :: else -> skip
       fi }
  :: atomic { exporter_up && empty(to_exporter) && exporter_supervised && !source_supervised ->
       exporter_supervised = false;
       if
       :: before_commit -> exporter_fails()
       :: else -> skip
       fi }
  :: atomic { exporter_up && source_linked && nempty(to_source) ->
       to_source ? message;
       if
       :: message == Prepared && source_state == kPreparing ->
          source_state = kPrepared;
          exporter_tells(prepared)
       :: message == Loaded -> heard_loaded = true; exporter_decides()
       :: message == Running && source_state == kCommitted -> exporter_tells(running)
       :: message == Returned && before_commit -> exporter_fails()
       :: message == Returned && source_state == kCommitted ->
          recorded_outcome = kReturned;
          source_state = kReturned;
          exporter_tells(returned);
          say(to_destination, Released);
          exporter_leaves()
       :: (message == Drained || message == Ended) && source_state == kCommitted ->
          /* release(): the record stays and says so, since a QEMU may be frozen here still */
          assert(whole || over);
#ifdef WITHOUT_OUTCOME
          record = false;
#endif
          recorded_outcome = kReleased;
          source_state = kReleased;
          exporter_tells(drained);
          say(to_destination, Released);
          exporter_leaves()
       :: message == Abort && source_state == kAborted -> exporter_leaves()
       :: message == Abort && before_commit -> exporter_fails()
       :: else -> skip
       fi }
  :: atomic { exporter_up && source_linked && broken ->
       source_linked = false;
       forget(to_source, seen);
       if
       :: before_commit -> exporter_fails()
       :: else -> skip
       fi }
  /* Dials again: only what was decided is worth it. */
  :: atomic { exporter_up && !source_linked && !destination_linked && pager_up &&
              (source_state == kCommitted || source_state == kAborted) ->
       forget(to_source, seen);
       forget(to_destination, seen);
       broken = false;
       source_linked = true;
       destination_linked = true;
       /* repeat_outcome() */
       if
       :: destination_state == kLoaded -> to_source ! Loaded
       :: destination_state == kCommitted && stage == kRunning -> to_source ! Running
       :: destination_state == kDrained -> to_source ! Drained
       :: destination_state == kEnded -> to_source ! Ended
       :: destination_state == kReturned -> to_source ! Returned
       :: else -> skip
       fi;
       if
       :: source_state == kCommitted -> to_destination ! Commit
       :: source_state == kAborted -> to_destination ! Abort
       fi }
  /* Nobody is there who knows of it (the destination aborted, and is gone): refused. */
  :: atomic { exporter_up && source_state == kAborted && !pager_up && destination_qemu == gone &&
              !destination_supervised -> exporter_leaves() }
  :: atomic { exporter_up && source_state == kAborted && stage == kAborted -> exporter_leaves() }
  od
}

/* The source's supervisor ---------------------------------------------------------------------- */

inline resumes_at_source() {
  /* Relocation::roll_back(): nothing can commit any more. */
  assert(!record || recorded_outcome == kReturned);
  record = false;
  migrating = false;
  if
  :: source_qemu != gone -> source_qemu = executing; never_two()
  :: else -> skip
  fi
}

proctype SourceSupervisor() {
  mtype event, seen;
  bool gave_up;
begin:
  gave_up = false;
  /* prepare(), stop_vm() */
  if
  :: atomic { nempty(from_exporter) && source_supervised ->
       from_exporter ? event;
       if
       :: event == prepared -> migrating = true; source_qemu = pre_switchover
       :: else -> gave_up = true
       fi }
  :: atomic { empty(from_exporter) && !exporter_up && source_supervised -> gave_up = true }
  :: !source_supervised -> goto crashed
  fi;
  if
  :: gave_up -> goto settle
  :: else -> skip
  fi;
  /* hand_over() */
  if
  :: atomic { source_supervised && exporter_up -> to_exporter ! read_point }
  :: atomic { source_supervised && !exporter_up -> goto settle }
  :: !source_supervised -> goto crashed
  fi;
  if
  :: atomic { source_supervised && source_qemu == pre_switchover ->
       source_qemu = postmigrate; migrating = false }
  :: atomic { source_supervised && source_qemu == executing -> goto settle } /* it failed, and resumed */
  :: source_supervised -> goto settle                                  /* a timeout, a user's abort */
  :: !source_supervised -> goto crashed
  fi;
  if
  :: atomic { source_supervised && exporter_up -> to_exporter ! source_completed }
  :: atomic { source_supervised && !exporter_up -> goto settle }
  :: !source_supervised -> goto crashed
  fi;
  if
  :: atomic { source_supervised && nempty(from_exporter) ->
       from_exporter ? event;
       if
       :: event == committed -> goto follow
       :: else -> goto settle
       fi }
  :: atomic { source_supervised && empty(from_exporter) && !exporter_up -> goto settle }
  :: source_supervised -> goto settle /* a timeout */
  :: !source_supervised -> goto crashed
  fi;

settle: /* settle_whether_committed(): the exporter's word, or its record once it is reaped */
  if
  :: atomic { source_supervised && exporter_up && nfull(to_exporter) -> to_exporter ! abort }
  :: atomic { source_supervised && !exporter_up -> skip }
  :: !source_supervised -> goto crashed
  fi;
  do
  :: atomic { source_supervised && nempty(from_exporter) ->
       from_exporter ? event;
       if
       :: event == committed -> goto follow
       :: event == failed -> goto roll_back
       :: else -> skip
       fi }
  :: atomic { source_supervised && empty(from_exporter) && !exporter_up ->
       if
       :: record -> goto follow
       :: else -> goto roll_back
       fi }
  :: atomic { source_supervised && empty(from_exporter) && exporter_up ->
       /* it does not answer: killed and reaped */
#ifdef WITHOUT_REAP_FIRST
       goto roll_back }
#else
       exporter_up = false; forget(to_exporter, seen) }
#endif
  :: !source_supervised -> goto crashed
  od;

roll_back:
  atomic { if
  :: source_supervised -> resumes_at_source(); goto done
  :: else -> goto crashed
  fi };

follow: /* follow(): frozen, until it is certain that it need not be handed back */
  atomic { if
#ifdef WITHOUT_FREEZE
  :: source_supervised && source_qemu != gone -> source_qemu = gone
#else
  :: source_supervised && source_qemu != gone -> source_qemu = frozen
#endif
  :: source_supervised && source_qemu == gone -> skip
  :: else -> goto crashed
  fi };
  do
  :: atomic { source_supervised && nempty(from_exporter) ->
       from_exporter ? event;
       if
       :: event == returned -> goto roll_back
       :: event == running ->
          assert(destination_qemu != inmigrate && destination_state >= 0);
          source_qemu = gone
       :: event == drained -> source_qemu = gone; goto leave
       :: else -> skip
       fi }
  :: atomic { source_supervised && empty(from_exporter) && !exporter_up ->
       if
       :: record && recorded_outcome == kReleased -> source_qemu = gone; goto leave
       :: record && recorded_outcome == kReturned -> goto roll_back
       :: record && recorded_outcome == kCommitted ->
          /* started again, from the record */
          exporter_up = true; exporter_supervised = true; source_state = kCommitted;
          heard_loaded = true; heard_completed = true; broken = true; source_linked = false
       :: else -> goto roll_back
       fi }
  :: !source_supervised -> goto crashed
  od;

leave:
  atomic { record = false; goto done };

crashed: /* `vmhop recover`: a new supervisor, which knows what is on disk and which processes live */
  atomic { !source_supervised ->
    forget(from_exporter, seen);
    look_for_memory() };
  if
  /* It gives its former exporter time to see that its supervisor is gone, and decides by the record. */
  :: atomic { exporter_up && record && recorded_outcome == kCommitted ->
       source_supervised = true; exporter_up = false; forget(to_exporter, seen); goto follow }
  :: atomic { exporter_up && source_state == kAborted -> source_supervised = true; goto roll_back }
  :: atomic { !exporter_up && record && recorded_outcome == kCommitted && !lost ->
       source_supervised = true; goto follow }
  :: atomic { !exporter_up && record && recorded_outcome == kReleased ->
       source_supervised = true; source_qemu = gone; goto leave }
  :: atomic { !exporter_up && record && recorded_outcome == kReturned ->
       source_supervised = true; goto roll_back }
  :: atomic { !exporter_up && !record -> source_supervised = true; goto roll_back }
  :: atomic { lost -> goto done }
  fi;

done:
  skip
}

/* QEMU at the source resumes by itself when its migration fails before it is complete. */
proctype SourceQemu() {
  if
  :: atomic { source_qemu == pre_switchover && migrating ->
       migrating = false; source_qemu = executing; never_two() }
  :: true -> skip
  fi
}

/* The pager ------------------------------------------------------------------------------------ */

inline pager_tells(event) {
  if
  :: pager_supervised -> from_pager ! event
  :: else -> skip
  fi
}

inline pager_leaves() {
  pager_up = false;
  destination_linked = false;
  broken = true;
  forget(to_pager, seen)
}

inline pager_aborts() { /* on_abort() */
  pager_tells(aborted);
  say(to_source, Abort);
  /* what is in the socket still arrives */
  pager_up = false;
  forget(to_pager, seen)
}

proctype Pager() {
  mtype message, seen;
  do
  :: atomic { pager_up && destination_linked && nempty(to_destination) && nfull(to_source) ->
       to_destination ? message;
       if
       :: message == Prepare -> pager_tells(prepare)
       :: message == Commit && destination_state == kLoaded ->
          destination_state = kCommitted;
          pager_tells(commit)
       :: message == Commit && destination_state == kDrained -> say(to_source, Drained)
       :: message == Commit && destination_state == kEnded -> say(to_source, Ended)
       :: message == Commit && destination_state == kReturned -> say(to_source, Returned)
       :: message == Abort && (destination_state == kPreparing || destination_state == kLoaded ||
                               destination_state == kReturned) -> pager_aborts()
       :: message == Abort && (destination_state == kCommitted || destination_state == kDrained) ->
          assert(false) /* never after the commit */
       :: message == Released -> pager_tells(released); pager_leaves()
       :: else -> skip
       fi }
  :: atomic { pager_up && nempty(to_pager) && nfull(to_source) ->
       to_pager ? message;
       if
       :: message == prepared -> say(to_source, Prepared)
       :: message == loaded && destination_state == kPreparing ->
          destination_state = kLoaded;
          say(to_source, Loaded)
       :: message == load_failed && destination_state == kPreparing -> pager_aborts()
       :: message == running && destination_state == kCommitted -> say(to_source, Running)
       :: message == returned ->
          destination_state = kReturned;
          say(to_source, Returned)
       :: message == ended && destination_state == kCommitted ->
          destination_state = kEnded;
          say(to_source, Ended)
       :: else -> skip
       fi }
  :: atomic { pager_up && destination_linked && broken && empty(to_destination) ->
       destination_linked = false;
       if
       :: destination_state == kPreparing -> pager_aborts()
       :: else -> skip
       fi }
  :: atomic { pager_up && destination_linked && broken && nempty(to_destination) ->
       forget(to_destination, seen) }
  :: atomic { pager_up && pager_supervised && !destination_supervised && empty(to_pager) ->
       pager_supervised = false;
       if
       :: destination_state == kPreparing -> pager_aborts()
       :: else -> skip
       fi }
  :: atomic { pager_up && destination_linked && !broken && exporter_up && !lost &&
              destination_state == kCommitted && destination_runs && stage == kRunning &&
              nfull(to_source) && nfull(from_pager) ->
       whole = true;
       destination_state = kDrained;
       say(to_source, Drained);
       pager_tells(drained) }
  od
}

/* The destination's supervisor ------------------------------------------------------------------ */

inline gives_back() { /* Reception::give_back(): killed first, then said */
  destination_qemu = gone;
  stage = kGivenBack;
  if
  :: pager_up -> to_pager ! returned
  :: else -> skip
  fi
}

proctype DestinationSupervisor() {
  mtype event, seen;
  do
  :: atomic { destination_supervised && nempty(from_pager) && nfull(to_pager) ->
       from_pager ? event;
       if
       :: event == prepare && stage == kLoading -> to_pager ! prepared
       :: event == commit && stage == kLoaded ->
          stage = kResuming
       :: event == commit && stage == kRunning && pager_up -> to_pager ! running
       :: event == commit && stage == kGivenBack && pager_up -> to_pager ! returned
       :: event == commit && stage == kEnded && pager_up -> to_pager ! ended
       :: event == aborted ->
          assert(!destination_runs);
          destination_qemu = gone; stage = kAborted
       :: else -> skip
       fi }
  /* QEMU says that it has loaded the device state: never before the read point's device state. */
  :: atomic { destination_supervised && stage == kLoading && destination_qemu == inmigrate &&
              pager_up && nfull(to_pager) &&
              (source_qemu == postmigrate || source_qemu == pre_switchover) ->
       destination_qemu = paused; stage = kLoaded; to_pager ! loaded }
  :: atomic { destination_supervised && stage == kLoading && destination_qemu == inmigrate &&
              pager_up && nfull(to_pager) && crashes < CRASHES ->
       crashes++; destination_qemu = gone; stage = kGivenBack; to_pager ! load_failed }
  /* cont: it works, or it proves that it did not run. */
  :: atomic { destination_supervised && stage == kResuming && destination_qemu == paused &&
              nfull(to_pager) ->
       destination_qemu = executing; never_two(); stage = kRunning;
       if
       :: pager_up -> to_pager ! running
       :: else -> skip
       fi }
  :: atomic { destination_supervised && stage == kResuming && destination_qemu == paused &&
              crashes < CRASHES && nfull(to_pager) -> crashes++; gives_back() }
  /* An operator drops what is in doubt. */
  :: atomic { destination_supervised && stage == kLoaded && destination_state == kLoaded &&
              crashes < CRASHES && nfull(to_pager) -> crashes++; gives_back() }
  /* The guest powers off. */
  :: atomic { destination_supervised && stage == kRunning && destination_runs && !whole &&
              crashes < CRASHES && nfull(to_pager) ->
       crashes++; destination_qemu = gone; over = true; stage = kEnded;
       if
       :: pager_up -> to_pager ! ended
       :: else -> skip
       fi }
  /* The pager died: before the device state is loaded that is the end, then it is started again. */
  :: atomic { destination_supervised && !pager_up && empty(from_pager) && stage == kLoading ->
       destination_qemu = gone; stage = kAborted }
  :: atomic { destination_supervised && !pager_up && empty(from_pager) && !whole &&
              (stage == kLoaded || stage == kResuming || stage == kRunning || stage == kGivenBack ||
               (stage == kEnded && over)) &&
              source_state != kReleased && source_state != kReturned ->
       pager_up = true; pager_supervised = true; destination_linked = false; broken = true;
       forget(to_pager, seen);
       /* remind_pager(), and repeat_news() */
       if
       :: stage == kLoaded -> to_pager ! loaded
       :: stage == kRunning -> to_pager ! running
       :: stage == kGivenBack -> to_pager ! returned
       :: stage == kEnded -> to_pager ! ended
       :: else -> skip
       fi;
       if
       :: destination_state == kCommitted -> from_pager ! commit
       :: else -> skip
       fi }
  /* `vmhop recover`: the page map says how far it was, QEMU whether it runs. */
  :: atomic { !destination_supervised ->
       forget(from_pager, seen);
       if
       :: pager_up -> pager_up = false; destination_linked = false; broken = true;
          forget(to_pager, seen)
       :: else -> skip
       fi;
       destination_supervised = true;
       if
       :: destination_state == kPreparing || stage == kAborted ->
          assert(!destination_runs);
          destination_qemu = gone; stage = kAborted
       :: destination_state == kLoaded && stage != kAborted ->
          if
          :: destination_qemu == gone -> stage = kGivenBack
          :: else -> stage = kLoaded
          fi
       :: destination_state == kCommitted ->
          if
          :: destination_runs -> stage = kRunning
          :: destination_qemu == paused -> stage = kResuming
          :: destination_qemu == gone && over -> stage = kEnded
          /* (There is nothing to recover then. It comes to the same: an operator sees that it never
           * ran here, and says so at the source.) */
          :: destination_qemu == gone && !over -> stage = kGivenBack
          :: else -> assert(false)
          fi
       :: destination_state == kReturned -> stage = kGivenBack
       :: destination_state == kEnded -> stage = kEnded
       :: destination_state == kDrained -> stage = kRunning
       fi }
  od
}

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
