# What ci/slurm, which sources this, has to say about the VMs and their jobs.
# shellcheck shell=bash disable=SC2154

failed_checks=()

check() {  # WHAT COMMAND…
  local what=$1
  shift
  if "$@"; then
    say "verified: $what"
  else
    say "FAILED: $what"
    failed_checks+=("$what")
    return 1
  fi
}

job_says() { on head squeue --noheader --states=all --jobs="$1" --format="%$2"; }
state_of() { job_says "$1" T; }
node_of() { job_says "$1" N; }
has_state() { [[ $(state_of "$1") == "$2" ]]; }

# The job that is the VM now, by what the jobs' comments say.
job_of() {  # VM
  on head squeue --noheader --states=RUNNING --format='%A %k' |
    awk -v vm="vm=$1" '$2 ~ "^vmhop:" vm "(;|$)" && $2 ~ /;state=running(;|$)/ { print $1 }'
}

console() { cat "$(files_of "$1")/run/$2.console" 2>/dev/null || true; }  # NODE VM
passes() { console "$1" "$2" | grep -aoE '^BM PASS [0-9]+ errors=[0-9]+ ' || true; }
last_pass() { passes "$1" "$2" | tail -1 | cut -d' ' -f3; }
count_passes() { passes "$1" "$2" | wc -l; }
has_passed() { [[ $(count_passes "$1" "$2") -ge $3 ]]; }
is_ready() { console "$1" "$2" | grep -qa '^BM READY'; }

# The guest went on where it was, and has looked at all of its memory since: one pass that had begun
# before, one that began here, and no word that is wrong in either.
memory_is_right() {  # VM SOURCE DESTINATION PASSES-AT-SOURCE
  until_true 90 has_passed "$3" "$1" 2 || { say "$1 has not checked its memory twice at $3"; return 1; }
  local first
  first=$(passes "$3" "$1" | head -1 | cut -d' ' -f3)
  # The line about a pass may have been printed in part here and in part there.
  if [[ $first -le ${4:-0} || $first -gt $((${4:-0} + 2)) ]]; then
    say "$1 had passed $4 times at $2, and then the ${first}th time at $3"
    return 1
  fi
  ! { passes "$3" "$1" | grep -v 'errors=0 ' || console "$3" "$1" | grep -a -e '^BM ERROR' -e '^BM READY'; }
}

job_took_over() {  # OLD NEW VM
  until_true 20 has_state "$1" COMPLETED || { say "job $1 is $(state_of "$1")"; return 1; }
  [[ $(state_of "$2") == RUNNING && $(job_says "$2" j) == "$3" && $(job_of "$3") == "$2" ]] ||
    { say "job $2 is $(state_of "$2"), called $(job_says "$2" j); $3's is $(job_of "$3")"; return 1; }
  [[ $(job_says "$2" u) == "$(owner_of "$3")" && $(job_says "$2" k) == *" | $3 of ci/slurm" ]] ||
    { say "job $2 is of $(job_says "$2" u), with the comment $(job_says "$2" k)"; return 1; }
}

nothing_left_on() {  # NODE
  local left
  left=$(vm_processes_on "$1"
    # (What `vmhop report` tells of VMs that have left is to stay.)
    find "$(files_of "$1")"/run/{vmhop,vmuser} -mindepth 1 -not -path '*/.relocations*' 2>/dev/null
    on head squeue --noheader --nodelist="$1")
  [[ -z $left ]] || { say "left on $1: $left"; return 1; }
}
