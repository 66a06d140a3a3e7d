/* The source: the exporter, its supervisor, and QEMU. Part of commit.pml. */

/* The exporter -------------------------------------------------------------------------------- */

inline exporter_tells(event) {
  if
  :: exporter_supervised -> from_exporter ! event
  :: else -> skip
  fi
}

inline exporter_fails() { /* SourceRelocation::fail() */
  source_state = kAborted;
  heard_loaded = false;
  heard_completed = false;
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
     heard_loaded = false;
     heard_completed = false;
     say(to_destination, Commit);
     exporter_tells(committed)
  :: else -> skip
  fi
}

inline exporter_revokes() { /* SourceRelocation::revoke() */
  recorded_outcome = kReturned;
  source_state = kAborted;
  exporter_tells(returned);
  if
  :: source_linked -> say(to_destination, Abort)
  :: else -> skip
  fi
}

inline exporter_leaves() {
  exporter_up = false;
  running_there = false;
  forget(to_exporter)
}

/* tell_until_answered(): whatever it has said, it stays until that is answered */
inline exporter_says_released() {
  say(to_destination, Released);
#ifdef WITHOUT_ANSWER
  exporter_leaves()
#endif
}

proctype Exporter() {
  mtype message;
  do
  /* The loop serves its supervisor first: a read point overtakes what comes after it. */
  :: atomic { exporter_up && nempty(to_exporter) ->
       to_exporter ? message;
       if
       :: message == read_point && source_state == kPrepared ->
          source_state = kReadPoint;
          say(to_destination, ReadPoint)
       :: message == source_completed && before_commit -> heard_completed = true; exporter_decides()
       :: message == abort && before_commit -> exporter_fails()
#ifdef WITHOUT_HEARD_RUNNING
       :: message == revoke && source_state == kCommitted -> exporter_revokes()
#else
       :: message == revoke && source_state == kCommitted && !running_there -> exporter_revokes()
#endif
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
       :: message == Loaded && before_commit -> heard_loaded = true; exporter_decides()
       :: message == Running && source_state == kCommitted && !running_there ->
          running_there = true;
          exporter_tells(running)
       :: message == Returned && before_commit -> exporter_fails()
       :: message == Returned && source_state == kCommitted ->
          recorded_outcome = kReturned;
          source_state = kReturned;
          exporter_tells(returned);
          exporter_says_released()
       :: (message == Drained || message == Ended) && source_state == kCommitted ->
          /* release(): the record stays and says so, since a QEMU may be frozen here still */
          assert(whole || over);
#ifdef WITHOUT_OUTCOME
          record = false;
#endif
          recorded_outcome = kReleased;
          source_state = kReleased;
          exporter_tells(drained);
          exporter_says_released()
       :: message == Released ->
          assert(source_state == kReturned || source_state == kReleased);
          exporter_leaves()
       :: message == Abort && source_state == kAborted -> exporter_leaves()
       :: message == Abort && before_commit -> exporter_fails()
       :: else -> skip
       fi }
  :: atomic { exporter_up && source_linked && broken ->
       source_linked = false;
       forget(to_source);
       if
       :: before_commit -> exporter_fails()
       :: else -> skip
       fi }
  /* Dials again: only what was decided is worth it. */
  :: atomic { exporter_up && !source_linked && !destination_linked && pager_up &&
              !before_commit ->
       forget(to_source);
       forget(to_destination);
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
       :: source_state == kReturned || source_state == kReleased -> to_destination ! Released
       fi }
  /* Nobody is there who knows of it (the destination aborted, and is gone): refused. */
  :: atomic { exporter_up && !before_commit && source_state != kCommitted && !pager_up &&
              destination_qemu == gone && !destination_supervised -> exporter_leaves() }
  :: atomic { exporter_up && !before_commit && source_state != kCommitted && stage == kAborted ->
       exporter_leaves() }
  od
}

/* The source's supervisor ---------------------------------------------------------------------- */

inline resumes_at_source() {
  /* Relocation::roll_back(): nothing can commit any more. */
  assert(!record || recorded_outcome == kReturned || (revoked && !exporter_up));
  record = false;
  revoked = false;
  migrating = false;
  if
  :: source_qemu != gone -> source_qemu = executing; never_two()
  :: else -> skip
  fi
}

proctype SourceSupervisor() {
  mtype event;
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
       exporter_up = false; exporter_died = true; forget(to_exporter);
       teller_died = (WRONG > 0) }
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
          assert(destination_qemu != inmigrate);
          revoked = false; /* "not_resolved" */
          source_qemu = gone
       :: event == drained -> source_qemu = gone; goto leave
       :: else -> skip
       fi }
  :: atomic { source_supervised && empty(from_exporter) && !exporter_up ->
       if
       :: record && recorded_outcome == kReleased -> source_qemu = gone; goto leave
       :: record && recorded_outcome == kReturned -> goto roll_back
       :: record && recorded_outcome == kCommitted ->
          /* started again, from the record, and told again what an operator has decided */
          exporter_up = true; exporter_died = false; exporter_supervised = true;
          source_state = kCommitted;
          broken = true; source_linked = false;
          running_there = false; teller_died = false;
          if
#ifndef WITHOUT_REVOKE_AGAIN
          :: revoked -> to_exporter ! revoke
#endif
          :: else -> skip
          fi
       :: else -> goto roll_back
       fi }
  /* It cannot be started again: unresolved, until an operator decides. */
  :: atomic { source_supervised && empty(from_exporter) && !exporter_up && revoked && record &&
              recorded_outcome == kCommitted && crashes < CRASHES -> crashes++; goto roll_back }
  /* `vmhop resolve NAME --run-here`: run_here() */
  :: atomic { source_supervised && source_qemu == frozen && !revoked && nfull(to_exporter) &&
              (right_to_run_at_source || wrong < WRONG) ->
       decides(right_to_run_at_source, wrongly_run);
       revoked = true;
       if
       :: exporter_up -> to_exporter ! revoke
       :: else -> skip
       fi }
  /* `vmhop resolve NAME --give-back`: keep_given_away() */
#ifdef WITHOUT_ONE_DECISION
  :: atomic { source_supervised && source_qemu == frozen &&
#else
  :: atomic { source_supervised && source_qemu == frozen && !revoked &&
#endif
              (right_to_give_away || wrong < WRONG) ->
       decides(right_to_give_away, wrongly_given);
       source_qemu = gone }
  :: !source_supervised -> goto crashed
  od;

leave:
  atomic { record = false; goto done };

crashed: /* `vmhop recover`: a new supervisor, which knows what is on disk and which processes live */
  atomic { !source_supervised ->
    forget(from_exporter);
    revoked = false; /* whoever asked has no answer */
    look_for_memory() };
  if
  /* There is nothing to recover then: an exporter that is left goes on alone. */
  :: atomic { source_qemu == gone -> goto done }
  /* It gives its former exporter time to see that its supervisor is gone, and decides by the record. */
  :: atomic { exporter_up && record && recorded_outcome == kCommitted && source_qemu != gone ->
       source_supervised = true; exporter_up = false; exporter_died = true; forget(to_exporter);
       goto follow }
  /* ... unless that has given up: it stays to tell the destination so. */
  :: atomic { exporter_up && source_state == kAborted && source_qemu != gone ->
       source_supervised = true;
#ifdef WITHOUT_TELLER
       if
       :: record -> exporter_up = false; forget(to_exporter)
       :: else -> skip
       fi;
#endif
       goto roll_back }
  :: atomic { !exporter_up && record && recorded_outcome == kCommitted && source_qemu != gone ->
       source_supervised = true; goto follow }
  :: atomic { record && recorded_outcome == kReleased && source_qemu != gone ->
       source_supervised = true; source_qemu = gone; goto leave }
  :: atomic { (!exporter_up || source_state == kReturned) && record &&
              recorded_outcome == kReturned && source_qemu != gone ->
       source_supervised = true; goto roll_back }
  :: atomic { !exporter_up && !record && source_qemu != gone ->
       source_supervised = true; goto roll_back }
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
