# What the program's own --help says there is, for tests to hold documents against. Sourced.

vmhop=${VMHOP:?the program}
documents=${DOCUMENTS:?the directory of its documents}
failures=0

complain() {
  echo "$*" >&2
  failures=$((failures + 1))
}

# The commands, one a line.
commands() {
  "$vmhop" --help | awk '/^Subcommands:/ { on = 1; next } /^$/ { on = 0 } on && /^  [a-z]/ { print $1 }'
}

# The long options of a command, or of vmhop itself without one.
options_of() {  # [COMMAND]
  "$vmhop" "$@" --help | awk '/^(Options|With ssh:\/\/):/ { on = 1; next } /^$/ { on = 0 } on && /^  -/ { print $1 }' |
    tr ',' '\n' | grep '^--'
}

positionals_of() {  # COMMAND
  "$vmhop" "$@" --help | awk '/^Positionals:/ { on = 1; next } /^$/ { on = 0 } on { print $1 }'
}

# Every word that one of a fixed set: "OPTION word word…" a line.
choices_of() {  # [COMMAND]
  "$vmhop" "$@" --help | awk '/^  --/ && match($2, /\{.*\}/) {
      words = substr($2, RSTART + 1, RLENGTH - 2); gsub(",", " ", words); print $1, words
    }
    /^  --/ && $2 ~ /\|/ {
      words = $2; sub(/=.*/, "", words); gsub(/\|/, " ", words); sub(/ [a-z]+:[A-Z]+/, "", words)
      print $1, words
    }'
}

finish() {
  [[ $failures -eq 0 ]] || exit 1
}
