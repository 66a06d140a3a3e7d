# Takes the fenced blocks out of Markdown files, each into a file of the directory `into`: a line
# "FILE<tab>LINE<tab>LANGUAGE<tab>MARKER", then the block. The marker is what stands in the
# <!-- … --> that is the last line before the fence, empty lines aside.
FNR == 1 && open { exit 2 }
FNR == 1 { marker = "" }
!open && /^ *```/ {
  open = 1
  indent = match($0, /[^ ]/) - 1
  language = $0
  sub(/^ *```/, "", language)
  block = sprintf("%s/%03d", into, ++count)
  printf "%s\t%d\t%s\t%s\n", FILENAME, FNR, language, marker >block
  marker = ""
  next
}
open && /^ *```$/ { open = 0; close(block); next }
open {
  for (i = 0; i < indent; ++i) sub(/^ /, "")
  print >block
  next
}
/^ *<!-- .* -->$/ { marker = $0; gsub(/^ *<!-- | -->$/, "", marker); next }
/[^ ]/ { marker = "" }
END { if (open) exit 2 }
