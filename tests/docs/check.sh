# Command lines that are not run are read at least: vmhop's by vmhop's own parser; what is in this tree has
# to be there, and to know the options that it is given. Sourced.

# Programs of others, which the documents may name.
others=' apt apt-get cd chmod cmake cp ctest dch dpkg-buildpackage echo exit export ls openssl sbatch scontrol
  scp ssh systemctl virsh '

# A command a line: prompts, continued lines and what joins commands taken out.
lines_of() {  # TEXT
  sed -E -e 's/^host-[ab]# //' -e 's/(^| )#.*//' <<<"$1" | sed -e ':more' -e '/\\$/{N;s/\\\n//;b more' -e '}' |
    sed -E 's/&&|\|\||[();|]/\n/g; s/>>? *[^ ]+//g; s/…/ /g' | sed '/^ *$/d'
}

complain() {
  echo "$at: $*" >&2
  failures=$((failures + 1))
}

# A word that names something of this tree names something that is there.
check_path() {  # WORD
  local top=${1%%/*}
  [[ $1 == */* && -n $top && $top != . && $top != .. && $top != build && -e $tree/$top ]] || return 0
  compgen -G "$tree/$1" >/dev/null || complain "there is no $1"
}

# Where the text is of what a program in the tree is given; nothing for one that is not there.
source_of() {  # PROGRAM
  case $1 in
    build/*/bench/*) echo "$tree/bench" ;;
    vmhop-slurm-*) echo "$tree/examples/slurm/$1" ;;
    *) echo "$tree/$1" ;;
  esac
}

# `--` ends a program's own options: what follows is another command line.
check_own() {  # PROGRAM ARGUMENT…
  local program=$1 text word
  text=$(source_of "$program")
  [[ -d $text || -x $text ]] || { complain "there is no program $program"; return; }
  if [[ -d $text ]]; then
    grep -qrw "add_executable(${program##*/}" "$text" || complain "no target makes $program"
  fi
  shift
  while [[ $# -gt 0 && $1 != -- ]]; do
    word=${1%%=*}
    shift
    [[ $word != --?* ]] && continue
    grep -qrF -e "$word" "$text" "$(dirname "$text")" || complain "$program knows no $word"
  done
  [[ $# -lt 2 ]] || check_words "${@:2}"
}

check_words() {  # PROGRAM ARGUMENT…
  local word
  case $1 in
    vmhop) "$parser" "${@:2}" || complain "vmhop does not take: ${*:2}" ;;
    */*|vmhop-slurm-*) check_own "$@" ;;
    cmake) check_cmake "$@" ;;
    bash|ibv_devinfo) ;;
    *) [[ $others == *" $1"[$' \n']* ]] || complain "what is $1? It is no program that is known" ;;
  esac
  for word in "${@:2}"; do check_path "$word"; done
}

check_cmake() {
  while [[ $# -gt 1 ]]; do
    case $1 in
      --preset) grep -q "\"name\": \"$2\"" "$tree/CMakePresets.json" || complain "there is no preset $2" ;;
      --target) grep -qrE "add_(executable|custom_target)\($2\b" "$tree" --include=CMakeLists.txt ||
        complain "there is no target $2" ;;
    esac
    shift
  done
}

check_commands() {  # TEXT
  local line words
  while IFS= read -r line; do
    set -f
    eval "words=($line)" || { complain "cannot be read: $line"; continue; }
    set +f
    while [[ ${words[0]:-} == *=* ]]; do words=("${words[@]:1}"); done
    [[ ${#words[@]} -eq 0 ]] || check_words "${words[@]}"
  done < <(lines_of "$1")
}

# Units: what they start.
check_settings() {  # TEXT
  local line
  while IFS= read -r line; do
    line=${line#*=}
    line=${line#-}
    check_commands "${line#/usr/bin/}"
  done < <(sed -n '/^Exec[A-Za-z]*=/p' <<<"$1")
}

# What a sentence or a table shows of vmhop: its options are there.
check_spans() {  # FILE
  local number span command word known
  while IFS=: read -r number span; do
    at=$1:$number
    span=${span//\`/}
    read -r _ command _ <<<"$span"
    [[ $command =~ ^[a-z]+$ ]] || continue
    known=$("$vmhop" "$command" --help 2>&1) || { complain "vmhop knows no $command"; continue; }
    for word in $(grep -oE -e '--[a-z][a-z-]+' <<<"${span%% -- *}" || true); do
      grep -qE -e "$word\b" <<<"$known" || complain "vmhop $command knows no $word"
    done
  done < <(grep -noE '`vmhop [a-z]+[^`]*`' "$tree/$1" || true)
}
