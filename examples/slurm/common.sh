# shellcheck shell=bash
# What the programs beside this file share; they source it. What Slurm knows about VMs is in the comments
# of their jobs, so that nothing else is needed that all nodes reach:
#
#   vmhop:vm=web;state=running;dir=/run/vmhop        behind " | " comes the comment that the user had
#
#   vm, dir    the VM's name, and where vmhop keeps its sockets on the job's node (VMHOP_RUNTIME_DIR)
#   state      running    the job is the VM
#              leaving    … and the VM is about to hop to job `to`
#              left       it runs in job `to`; this one is ending, and never starts it again
#              incoming   the job waits for the VM of job `from`, at the address `at` once it can come
#   exclude    the nodes that the user did not want it on (--exclude), job by job the same

program=${0##*/}

say() { echo "$program: $*" >&2; }
die() { say "$*"; exit 1; }
wrong_usage() { say "$*. --help tells more"; exit 2; }

# The comment at the head of a program, which is its manual.
print_help() {  # FILE
  sed -n '2,/^[^#]/{s/^# \{0,1\}//;/^[^# ]*set -euo/d;p}' "$1"
}

need() {  # PROGRAM…
  local missing
  for missing in "$@"; do
    command -v "$missing" >/dev/null || die "$missing is not to be found. Install it, or add its folder to PATH"
  done
}

# A command of an administrator may itself run inside of a job, whose variables are not meant for the
# jobs that it looks after.
forget_surrounding_job() {
  local variable
  for variable in $(compgen -v SLURM_) $(compgen -v SBATCH_) $(compgen -v SRUN_); do
    [[ $variable == SLURM_CONF ]] || unset "$variable"
  done
}

# Root acts for the owners of jobs: what is theirs (job, key, sockets) stays theirs.
as_user() {  # USER COMMAND…
  local user=$1 home variables
  shift
  if [[ $user == "$(id -un)" ]]; then
    "$@"
    return
  fi
  [[ $(id -u) -eq 0 ]] || die "the job belongs to $user: be $user, or root"
  home=$(getent passwd "$user" | cut -d: -f6)
  variables=(HOME="${home:-/}" USER="$user" LOGNAME="$user" PATH="$PATH")
  [[ -z ${SLURM_CONF:-} ]] || variables+=(SLURM_CONF="$SLURM_CONF")
  runuser -u "$user" -- env -i "${variables[@]}" "$@"
}

# ---- jobs ----

# One thing that Slurm knows about a job, by the letter that squeue has for it; empty when there is no
# such job (any more).
job_says() {  # JOB LETTER
  local answer
  if answer=$(squeue --noheader --states=all --jobs="$1" --format="%$2" 2>&1); then
    echo "${answer%%$'\n'*}"
  elif [[ $answer != *'Invalid job id'* ]]; then
    say "squeue cannot tell about job $1: $answer"
    return 1
  fi
}
job_state() { job_says "$1" T; }

# It may still be cleaning up, but nothing of it will run again.
job_is_over() {  # JOB
  local state
  state=$(job_state "$1") || return
  [[ $state == COMPLETING ]] || is_final "$state"
}

# Whether it surely runs nothing any more, and will not. While Slurm does not answer nobody knows.
job_has_ended() {  # JOB
  local state
  state=$(job_state "$1") || return
  is_final "$state"
}

is_final() {  # STATE, empty when Slurm has forgotten the job
  case $1 in
    '' | BOOT_FAIL | CANCELLED | COMPLETED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | \
      REVOKED | TIMEOUT) ;;
    *) return 1 ;;
  esac
}

# `scontrol show job` has a field in a line of its own or among others; only the former has blanks.
job_line() { sed -n "s/^ *$1=//p"; }                                      # FIELD <JOB
job_word() { grep -oE "(^| )$1=[^ ]*" | head -1 | sed -E 's/^ ?[^=]*=//'; }  # FIELD <JOB

# All of them at once, into the arrays `job_words` and `job_lines` of the caller: three programs for each of twenty
# fields take seconds where CPUs are busy. What is no name of Slurm's, in a user's comment, is no field.
# shellcheck disable=SC2154
read_job() {  # <JOB
  local line word words field='^([A-Za-z][A-Za-z/:_]*)=(.*)$'
  while read -r line; do
    read -ra words <<<"$line"
    [[ ! $line =~ $field ]] || : "${job_lines[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}}"
    for word in "${words[@]}"; do
      [[ ! $word =~ $field ]] || : "${job_words[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}}"
    done
  done
}

# ---- their records ----

record_of() {  # JOB
  job_says "$1" k
}

is_record() { [[ $1 == vmhop:* ]]; }

field() {  # RECORD FIELD
  local record=${1%% | *} part
  local IFS=';'
  is_record "$record" || return 0
  for part in ${record#vmhop:}; do
    [[ $part != "$2="* ]] || echo "${part#*=}"
  done
}

# An empty value takes the field out.
with_fields() {  # RECORD FIELD=VALUE…
  local record=$1 tail='' text='' name change part
  local -A fields=()
  shift
  if ! is_record "$record"; then
    [[ -z $record || $record == '(null)' ]] || tail=" | $record"
    record=
  elif [[ $record == *' | '* ]]; then
    tail=" | ${record#* | }"
    record=${record%% | *}
  fi
  local IFS=';'
  for part in ${record#vmhop:}; do fields[${part%%=*}]=${part#*=}; done
  for change in "$@"; do fields[${change%%=*}]=${change#*=}; done
  for name in vm state from to at dir exclude; do
    [[ -z ${fields[$name]:-} ]] || text+=";$name=${fields[$name]}"
  done
  echo "vmhop:${text#;}$tail"
}

# The controller may be away for a moment; what it has not heard it would decide wrongly later.
change_record() {  # JOB FIELD=VALUE…
  local job=$1 record answer attempt
  shift
  for attempt in 1 2 3 4 5; do
    if record=$(record_of "$job") &&
      answer=$(scontrol update JobId="$job" Comment="$(with_fields "$record" "$@")" 2>&1); then
      return
    fi
    sleep "$attempt"
  done
  say "the record of job $job could not be changed ($*): ${answer:-no answer}"
  return 1
}

# ---- nodes ----

node_says() {  # NODE FIELD
  scontrol --oneliner show node "$1" | job_word "$2"
}

reason_of() { scontrol show node "$1" | job_line Reason; }  # NODE: why it is drained

# Nothing new shall run there.
node_is_leaving() {  # NODE
  [[ $(node_says "$1" State) =~ DRAIN|DOWN|FAIL|MAINT|NOT_RESPONDING|POWERING_DOWN ]]
}

# Lines "JOB USER RECORD" of the VMs that run on a node.
vm_jobs() {  # NODE
  local job user record answer
  answer=$(squeue --noheader --states=RUNNING --nodelist="$1" --format='%A %u %k' 2>&1) ||
    die "squeue cannot tell what runs on $1: $answer"
  while read -r job user record; do
    case $(field "$record" state) in
      running | leaving) echo "$job $user $record" ;;
    esac
  done <<<"$answer"
}
