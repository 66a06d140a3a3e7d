# A job like the one that a VM runs in, for the VM to hop to. vmhop-slurm-evacuate sources it; what it works
# on are that program's variables: the VM's `job`, `user`, `record` and `vm`, the folder `work`, and `wait`. It
# sets `new`, `place` and `address` or, on failure, `reason`.
# shellcheck shell=bash disable=SC2154,SC2034

# Of what the job was submitted with: all that Slurm tells. (Its #SBATCH lines come with its script.)
options_like_job() {  # AVOID <DESCRIPTION; sets `options`
  local value avoid=$1
  local -A job_words=() job_lines=()
  read_job
  # What the user excluded, but not what an evacuation before this one did.
  value=$(field "$record" exclude)
  avoid+=${value:+${avoid:+,}$value}
  word() { value=${job_words[$1]:-} && [[ -n $value && $value != '(null)' && $value != N/A ]]; }
  options=(--job-name="$vm.incoming" --open-mode=append --parsable
    --comment="$(with_fields "$record" state=incoming from="$job" to= at=)")
  [[ -z $avoid ]] || options+=(--exclude="$avoid")
  word Partition && options+=(--partition="$value")
  word Account && options+=(--account="$value")
  word QOS && options+=(--qos="$value")
  word Reservation && options+=(--reservation="$value")
  word NumTasks && options+=(--ntasks="$value")
  word CPUs/Task && options+=(--cpus-per-task="$value")
  word MinMemoryNode && options+=(--mem="$value")
  word MinMemoryCPU && options+=(--mem-per-cpu="$value")
  word Features && options+=(--constraint="$value")
  word Licenses && options+=(--licenses="$value")
  word TresPerNode && options+=(--gres="${value#gres[:/]}")
  word Requeue && options+=("$([[ $value == 1 ]] && echo --requeue || echo --no-requeue)")
  word OverSubscribe && case $value in
    NO) options+=(--exclusive) ;;
    USER) options+=(--exclusive=user) ;;
    YES) options+=(--oversubscribe) ;;
  esac
  options+=(--time="$(time_left)" --chdir="${job_lines[WorkDir]:-}")
  options+=(--output="$(for_any_job "${job_lines[StdOut]:-}")")
  [[ ${job_lines[StdErr]:-} == "${job_lines[StdOut]:-}" ]] ||
    options+=(--error="$(for_any_job "${job_lines[StdErr]:-}")")
}

# slurm-12.out is slurm-%j.out; a file that is named otherwise is both jobs'.
for_any_job() { sed -E "s/(^|[^0-9])$job([^0-9]|$)/\1%j\2/g" <<<"$1"; }

time_left() {  # of read_job's job
  local end=${job_words[EndTime]:-} minutes
  if [[ ${job_words[TimeLimit]:-} == UNLIMITED || ! $end =~ ^[0-9] ]]; then
    echo UNLIMITED
    return
  fi
  minutes=$((($(date -d "$end" +%s) - $(date +%s)) / 60))
  echo $((minutes > 1 ? minutes : 1))
}

# Runs sbatch with the job's own script, and prints what sbatch prints.
sbatch_like_job() {  # AVOID SBATCH-OPTION…
  local avoid=$1 description command arguments=() options script=$work/$job.sbatch
  local -A job_words=() job_lines=()
  shift
  description=$(scontrol show job "$job" 2>&1) || { echo "$description"; return 1; }
  read_job <<<"$description"
  if [[ -n ${job_words[ArrayJobId]:-} ]]; then
    echo "it is part of a job array, of which no single job can be submitted again"
    return 1
  fi
  rm -f "$script"
  as_user "$user" scontrol write batch_script "$job" - >"$script" 2>"$script.err" ||
    { cat "$script.err"; return 1; }
  chmod 500 "$script"
  [[ $(id -u) -ne 0 ]] || chown "$user" "$script"
  command=${job_lines[Command]:-}
  [[ $command != *' '* ]] || read -ra arguments <<<"${command#* }"
  options_like_job "$avoid" <<<"$description"
  as_user "$user" sbatch "${options[@]}" "$@" "$script" "${arguments[@]}" 2>&1
}

submit_successor() {  # AVOID
  local answer
  if answer=$(sbatch_like_job "$1"); then
    answer=${answer##*$'\n'}
    new=${answer%%;*}
    [[ $new =~ ^[0-9]+$ ]] && return
  fi
  reason="sbatch: $(tr '\n' ' ' <<<"$answer")"
  return 1
}

# Where it would go, without asking for it.
try_successor() {  # AVOID
  local answer
  if answer=$(sbatch_like_job "$1" --test-only) && [[ $answer =~ ' on nodes '([^ ]+)' in partition' ]]; then
    place=${BASH_REMATCH[1]}
    return
  fi
  reason=$(tr '\n' ' ' <<<"$answer")
  return 1
}

# Until the VM can come, or never will.
await_successor() {
  local state why nodes record_there look=0 give_up=$((SECONDS + wait)) began=
  while :; do
    IFS='|' read -r state why nodes record_there < <(
      squeue --noheader --states=all --jobs="$new" --format='%T|%r|%N|%k' 2>/dev/null) || true
    case $state in
      RUNNING)
        place=$nodes
        address=$(field "$record_there" at)
        [[ -z $address ]] || return 0
        : "${began:=$SECONDS}"
        if [[ $SECONDS -ge $((began + 60)) ]]; then
          reason="job $new runs at $place and is not ready to receive after 60 s; see its output"
          return 1
        fi
        ;;
      '' | PENDING | CONFIGURING | REQUEUED | REQUEUE_HOLD)
        if [[ $SECONDS -ge $give_up ]]; then
          [[ $why != None ]] || why="it gives no reason"
          reason="Slurm found no place within $wait s (${why:-it does not answer})"
          return 1
        fi
        ;;
      *)
        reason="job $new ended ($state) before the VM could come; see its output"
        return 1
        ;;
    esac
    if [[ -e $work/stop ]]; then
      reason="interrupted before it set out"
      return 1
    fi
    sleep "$([[ $((look++)) -lt 20 ]] && echo 0.25 || echo 1)"
  done
}
