# Runs the commands of a block on the hosts that they name, and looks whether they did what the document is
# about. Sourced.

# The VM of quick-start.md, where a page has none of its own.
quick_start_vm=' -M pc-q35-7.2 -accel tcg -m 4G -drive if=virtio,format=raw,cache=none,file=/srv/shared/web.img
  -nic tap,model=virtio-net-pci,ifname=tap-web,script=no,downscript=no -display none'
tap='tap,id=net,ifname=tap-web,script=no,downscript=no -device virtio-net-pci,netdev=net'

# All that is not run as it stands in the documents: what they leave out (…), and KVM, which CI may lack.
stand_ins() {  # TEXT
  local text=$1
  text=${text//-accel kvm/-accel tcg}
  text=${text//-drive …/-drive if=virtio,format=raw,cache=none,file=/srv/shared/web.img}
  text=${text//-netdev tap,…/-netdev $tap}
  text=${text//qemu-system-x86_64 …/qemu-system-x86_64 ${machine//$'\n'/ }}
  echo "$text"
}

wait_until() {  # WHAT COMMAND…
  local deadline=$((SECONDS + 60))
  until "${@:2}"; do
    [[ $SECONDS -lt $deadline ]] || fail "waited in vain until $1"
    sleep 0.05
  done
}

fail() {
  trap - ERR
  ls -t "$work"/logs/*.log | head -n 3 | xargs -r tail -n 20 >&2
  echo "$at: $*" >&2
  exit 1
}

# The guest -----------------------------------------------------------------------------------------

reset_disk() { dd if=/dev/zero of="$work/shared/web.img" bs=512 seek=1 count=1 conv=notrunc status=none; }
guest_passes() { od -An -tu4 -j512 -N4 "$work/shared/web.img" | tr -d ' '; }
passes_exceed() { [[ $(guest_passes) -gt $1 ]]; }

guest_goes_on() {  # PASSES
  wait_until "the guest is past its pass $1" passes_exceed "$1"
  [[ $(guest_passes) -ne 4294967295 ]] || fail "the guest found memory that is not what it wrote"
}

# VMs -----------------------------------------------------------------------------------------------

vm_is() {  # HOST STATE
  [[ $(on "$1" vmhop status web --json 2>/dev/null | jq -r .state) == "$2" ]]
}
host_has_none() { [[ $(on "$1" vmhop status --json 2>/dev/null | jq -r '.. | .state? // empty') == '' ]]; }

# What does not end by itself, until it is ready.
start_long() {  # HOST TEXT
  local log=$work/logs/$((++logs)).log command
  command=$(stand_ins "$2")
  (trap - ERR; on "$1" bash -c "$command") >"$log" 2>&1 </dev/null &
  long_log=$log
  case $2 in
    *' receive '*|*' pager '*) wait_until "$2 is ready" vm_is "$1" waiting ;;
    *' run '*)
      machine=${command#*qemu-system-x86_64}
      machine=${machine//$'\\\n'/ }
      wait_until "$2 runs the VM" vm_is "$1" running
      guest_goes_on 0
      ;;
    *' metrics --listen '*)
      wait_until 'metrics are there' scrape "$1" "${2##* }" >/dev/null
      scrape "$1" "${2##* }" | grep -q '^vmhop_build_info' || fail 'there are no metrics'
      ;;
  esac
}

scrape() {  # HOST ADDRESS:PORT
  on "$1" bash -c 'exec 3<>"/dev/tcp/${0%:*}/${0##*:}" && printf "GET /metrics HTTP/1.0\r\n\r\n" >&3 && cat <&3' \
    "$2" 2>/dev/null
}

run_to_end() {  # HOST TEXT
  local log=$work/logs/$((++logs)).log shell=(bash -euo pipefail)
  [[ $2 != *'#!/bin/sh'* ]] || shell=(sh)
  on "$1" timeout 90 "${shell[@]}" -c "$(stand_ins "$2")" >"$log" 2>&1 </dev/null ||
    fail "exit code $? at $1: $2"
  long_log=$log
}

relocation() {  # HOST TEXT
  local before
  before=$(guest_passes)
  run_to_end "$@"
  # It boots from the disk: had it begun again, it would count from 1.
  [[ $(guest_passes) -ge $before ]] || fail 'the VM began again'
  guest_goes_on "$(guest_passes)"
  wait_until 'the VM is at host-b' vm_is host-b running
  wait_until 'host-a has nothing left of it' host_has_none host-a
}

play_command() {  # HOST TEXT
  case $2 in
    *'vmhop '*' run '*|'vmhop '*' receive '*|'vmhop run '*|'vmhop receive '*|'vmhop pager '*|*' metrics --listen '*)
      start_long "$@"
      ;;
    'vmhop relocate '*) relocation "$@" ;;
    # Where there is no RDMA it says why, and that by its exit code, too.
    'vmhop devices') run_to_end "$1" "$2 || [[ \$? -eq 1 ]]" ;;
    *) run_to_end "$@" ;;
  esac
}

# What a block shows as a command's output is what it says, spaces aside.
expect_output() {  # LINE
  local line
  line=$(tr -s ' ' <<<"$1")
  wait_until "the command says:$1" grep -qF -- "$line" <(tr -s ' ' <"$long_log")
}

# With prompts each line is a command or its output; without, all of it is host-a's script.
play_commands() {  # TEXT
  local line host='' command='' outputs=()
  if ! grep -qE '^host-[ab]# ' <<<"$1"; then
    play_command host-a "$1"
    return
  fi
  while IFS= read -r line; do
    if [[ $line =~ ^(host-[ab])#\ (.*)$ ]]; then
      [[ -z $command ]] || play_command "$host" "$command"
      host=${BASH_REMATCH[1]} command=${BASH_REMATCH[2]}
    elif [[ $command == *\\ ]]; then
      command+=$'\n'$line
    else
      outputs+=("$line")
    fi
  done <<<"$1"
  play_command "$host" "$command"
  for line in "${outputs[@]}"; do expect_output "$line"; done
}

# What a marker's words set up ----------------------------------------------------------------------

setup_new_hosts() { new_hosts; reset_disk; }

setup_key() {
  run_to_end host-a 'vmhop keygen'
  on host-a scp -qp /etc/vmhop/key host-b:/etc/vmhop/key
}

# The page's VM at host-a.
setup_web() {
  reset_disk
  start_long host-a "vmhop run web -- qemu-system-x86_64 …"
}

setup_web_that_differs() {
  machine=' -M q35 -accel tcg -m 4G -drive if=virtio,format=raw,cache=none,file=/images/web.img
    -nic tap,model=virtio-net-pci,ifname=tap0,script=no,downscript=no -display none
    -fw_cfg name=opt/cpus,string=0-3'
  setup_web
}

setup_hopped() {
  setup_web
  relocation host-a 'vmhop relocate web ssh://host-b'
}

# By the first commands of certificates.md, each host's where `--tls-creds /etc/vmhop/tls` finds it.
setup_certificates() {
  if ! on host-a test -d /root/host-a; then
    play_commands "$(block_of docs/certificates.md 1)"
    play_commands "$(block_of docs/certificates.md 2)"
  fi
  on host-a cp -r /root/host-a /etc/vmhop/tls
  on host-a scp -qpr /root/host-b host-b:/etc/vmhop/tls
}

# The block is vmhop.conf, which every vmhop reads.
play_vmhop_conf() {  # TEXT
  on host-a tee /etc/vmhop/vmhop.conf <<<"$1" >/dev/null
  on host-a tee "/root/vmhop.conf" <<<"$1" >/dev/null
  run_to_end host-a 'vmhop status'
  run_to_end host-a 'VMHOP_CONFIG=/root/vmhop.conf vmhop status'
}

# The block is what gives the VM its memory.
play_qemu_arguments() {  # TEXT
  machine=${quick_start_vm/-m 4G/$1}
  setup_hopped
}
