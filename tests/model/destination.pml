/* The destination: the pager and its supervisor. Part of commit.pml. */

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
  forget(to_pager)
}

inline pager_aborts() { /* on_abort(): stored first, since there may be nobody to be told */
#ifndef WITHOUT_STORED_ABORT
  destination_state = kAborted;
#endif
  pager_tells(aborted);
  say(to_source, Abort);
  /* what is in the socket still arrives */
  pager_up = false;
  forget(to_pager)
}

proctype Pager() {
  mtype message;
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
       :: message == Abort && destination_state == kCommitted ->
          /* After the commit it is an operator's word, or before it an operator's commit was. (Or a
           * last word of a source that ran the VM, and is dead.) */
          assert(wrongly_run || destination_qemu == gone || source_dead);
          pager_aborts()
       :: message == Abort && destination_state == kDrained ->
          assert(wrongly_run || destination_qemu == gone) /* it says so: end one of the two */
       :: message == Abort && destination_state == kEnded ->
          assert(over);
          released_here = true;
          pager_tells(released);
          say(to_source, Abort);
          pager_up = false;
          forget(to_pager)
       :: message == Released -> /* on_released() */
          released_here = true;
          pager_tells(released);
          say(to_source, Released);
          /* what is in the socket still arrives */
          pager_up = false;
          forget(to_pager)
       :: else -> skip
       fi }
  :: atomic { pager_up && nempty(to_pager) && nfull(to_source) ->
       to_pager ? message;
       if
       :: message == prepared -> say(to_source, Prepared)
       :: message == loaded && destination_state == kPreparing ->
          destination_state = kLoaded;
          in_doubt = in_doubt || (!destination_linked && stage == kLoaded);
          say(to_source, Loaded)
       :: message == commit_by_operator && destination_state == kLoaded ->
          destination_state = kCommitted;
          pager_tells(commit)
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
       :: destination_state == kLoaded && stage == kLoaded -> in_doubt = true
       :: else -> skip
       fi }
  :: atomic { pager_up && destination_linked && broken && nempty(to_destination) ->
       forget(to_destination) }
  :: atomic { pager_up && pager_supervised && !destination_supervised && empty(to_pager) ->
       pager_supervised = false;
       if
       :: destination_state == kPreparing -> pager_aborts()
       :: else -> skip
       fi }
  :: atomic { pager_up && destination_linked && !broken && exporter_up &&
              source_state == kCommitted && destination_state == kCommitted && destination_runs && stage == kRunning &&
              nfull(to_source) && nfull(from_pager) ->
       whole = true;
       destination_state = kDrained;
       say(to_source, Drained);
       if
       :: pager_tells(drained)
       :: crashes < CRASHES -> crashes++; pager_leaves()
       fi }
  od
}

/* The destination's supervisor ------------------------------------------------------------------ */

inline gives_back() { /* Reception::give_back(): killed first, then said */
  destination_qemu = gone;
  stage = kGivenBack;
  in_doubt = false;
  if
  :: pager_up -> to_pager ! returned
  :: else -> skip
  fi
}

proctype DestinationSupervisor() {
  mtype event;
  do
  :: atomic { destination_supervised && nempty(from_pager) && nfull(to_pager) ->
       from_pager ? event;
       if
       :: event == prepare && stage == kLoading -> to_pager ! prepared
       :: event == commit && stage == kLoaded ->
          stage = kResuming; in_doubt = false
       :: event == commit && stage == kRunning && pager_up -> to_pager ! running
       :: event == commit && stage == kGivenBack && pager_up -> to_pager ! returned
       :: event == commit && stage == kEnded && pager_up -> to_pager ! ended
       :: event == drained -> heard_drained = true
       :: event == aborted ->
          assert(!destination_runs || wrongly_run || source_dead);
          destination_qemu = gone; stage = kAborted; in_doubt = false
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
  /* It is asked to end (SIGTERM). */
  :: atomic { destination_supervised && stage == kLoaded && !source_dead &&
              crashes < CRASHES && nfull(to_pager) -> crashes++; gives_back() }
  /* `vmhop resolve NAME --run-here` */
  :: atomic { destination_supervised && stage == kLoaded && in_doubt && pager_up && empty(to_pager) &&
              destination_state == kLoaded && (right_to_run_at_destination || wrong < WRONG) ->
       decides(right_to_run_at_destination, wrongly_run);
       to_pager ! commit_by_operator }
  /* `vmhop resolve NAME --give-back`, and `vmhop drop NAME` */
  :: atomic { destination_supervised && stage == kLoaded && in_doubt && nfull(to_pager) &&
              (right_to_give_back || wrong < WRONG) ->
       decides(right_to_give_back, wrongly_given);
       gives_back() }
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
       destination_qemu = gone; stage = kAborted; in_doubt = false }
  :: atomic { destination_supervised && !pager_up && empty(from_pager) && !heard_drained &&
              !released_here &&
              (stage == kLoaded || stage == kResuming || stage == kRunning || stage == kGivenBack ||
               (stage == kEnded && over)) ->
       pager_up = true; pager_supervised = true; destination_linked = false; broken = true;
       forget(to_pager);
       /* remind_pager(), and repeat_news() */
       if
       :: destination_state == kAborted -> pager_up = false; from_pager ! aborted
       :: stage == kLoaded && destination_state != kAborted ->
          to_pager ! loaded;
#ifndef WITHOUT_DOUBT_REPEATED
          in_doubt = in_doubt || destination_state == kLoaded
#endif
       :: stage == kRunning -> to_pager ! running
       :: stage == kGivenBack -> to_pager ! returned
       :: stage == kEnded -> to_pager ! ended
       :: else -> skip
       fi;
       if
       :: destination_state == kCommitted -> from_pager ! commit
       :: destination_state == kDrained -> from_pager ! drained
       :: else -> skip
       fi }
  /* `vmhop recover`: the page map says how far it was, QEMU whether it runs. Where QEMU is gone there
   * is nothing to recover; an operator who sees that decides at the source. */
  :: atomic { !destination_supervised && destination_qemu != gone ->
       forget(from_pager);
       if
       :: pager_up -> pager_up = false; destination_linked = false; broken = true;
          forget(to_pager)
       :: else -> skip
       fi;
       destination_supervised = true; in_doubt = false; heard_drained = false;
       if
       :: destination_state == kPreparing || destination_state == kAborted ->
          assert(!destination_runs || wrongly_run || source_dead);
          destination_qemu = gone; stage = kAborted; in_doubt = false
       :: destination_state == kLoaded -> stage = kLoaded; in_doubt = true
       :: destination_state == kCommitted ->
          if
          :: destination_runs -> stage = kRunning
          :: destination_qemu == paused -> stage = kResuming
          :: else -> assert(false)
          fi
       :: destination_state == kDrained -> stage = kRunning
       :: else -> assert(false)
       fi }
  od
}
