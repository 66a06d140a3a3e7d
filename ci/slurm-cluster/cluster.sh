# A cluster of head and three nodes on one switch, for ci/slurm, which sources this. It begins in namespaces of
# its own (mounts, network, processes), whose network is the switch and whose /mnt is all nodes' shared
# file system. All of it ends with ci/slurm, however that ends.
# shellcheck shell=bash disable=SC2154,SC2034

cluster=$root/ci/slurm-cluster
declare -A init_of=() launcher_of=()
computers=(head node1 node2 node3)
declare -A address_of=([head]=10.79.0.100 [node1]=10.79.0.1 [node2]=10.79.0.2 [node3]=10.79.0.3)

# Again and again until COMMAND succeeds; SECONDS at most.
until_true() {  # SECONDS COMMAND…
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [[ $SECONDS -lt $end ]] || return 1
    sleep 0.1
  done
}

on() {  # COMPUTER COMMAND…
  local computer=$1
  shift
  nsenter --target "${init_of[$computer]}" --mount --uts --net --pid --wd=/ "$@" </dev/null
}

files_of() { echo "/proc/${init_of[$1]}/root"; }  # COMPUTER: the root of its file system

# What is installed on all nodes, and configuration. PROGRAMS: the build directory. MIB: of one job.
prepare_shared_files() {  # PROGRAMS MIB
  mount -t tmpfs -o mode=0755 cluster /mnt
  mkdir -p /mnt/{cli,qemu-memory-backend,log,out,checks}
  chmod 1777 /mnt/out
  cp "$1/cli/vmhop" /mnt/cli/
  cp "$1/qemu-memory-backend/libvmhop-preload.so" /mnt/qemu-memory-backend/
  cp "$1/tests/guests/baremetal.elf" /mnt/
  cp -r "$root/examples/slurm" "$cluster/vm.sbatch" /mnt/
  export PATH=/mnt/cli:/mnt/slurm:$PATH
  make_keys
  make_user
  write_configuration "$2"
}

make_keys() {
  vmhop keygen /mnt/key >/dev/null 2>&1
  echo 'key = /mnt/key' >/mnt/vmhop.conf
  export VMHOP_CONFIG=/mnt/vmhop.conf
}

# One of the VMs is an ordinary user's, whom every node knows, and who may use userfaultfd as docs/non-root.md
# says. Where there is no such device all VMs are root's.
make_user() {
  user=root
  [[ -e /dev/userfaultfd ]] || return 0
  user=vmuser
  { cat /etc/passwd; echo 'vmuser:x:4242:4242::/mnt/home:/bin/bash'; } >/mnt/passwd
  mount --bind /mnt/passwd /etc/passwd
  install -D --mode=600 /mnt/key /mnt/home/.config/vmhop/key
  cp -a /dev/userfaultfd /mnt/userfaultfd
  chown -R 4242:4242 /mnt/home /mnt/userfaultfd
  mount --bind /mnt/userfaultfd /dev/userfaultfd
}

# Root's settings are none of the user's.
as_owner() {  # USER COMMAND…
  local owner=$1
  shift
  if [[ $owner == root ]]; then on head "$@"; else on head runuser -u "$owner" -- env -u VMHOP_CONFIG "$@"; fi
}

write_configuration() {  # MIB
  (umask 077 && head -c 1024 /dev/urandom >/mnt/munge.key)
  printf '127.0.0.1 localhost\n' >/mnt/hosts
  for computer in "${computers[@]}"; do echo "${address_of[$computer]} $computer" >>/mnt/hosts; done
  # Room for three VMs on the first node, for two on the second, for one on the third.
  sed "s/NODE1_MIB/$((3 * $1))/; s/NODE2_MIB/$((2 * $1))/; s/NODE3_MIB/$1/" "$cluster/slurm.conf" >/mnt/slurm.conf
  # slurmd hands nothing of this environment on to it.
  printf '#!/bin/bash\nexport SLURM_CONF=/mnt/slurm.conf PATH=%q\nexec vmhop-slurm-health --checks /mnt/checks\n' \
    "$PATH" >/mnt/health
  chmod +x /mnt/health
}

first_child_of() { pgrep --oldest --parent "$1"; }  # PID

has_own_network() { [[ $(readlink /proc/self/ns/net) != "$(readlink "/proc/$1/ns/net")" ]]; }  # PID

start_computer() {  # NAME DAEMON
  unshare --net --uts --mount --pid --fork --kill-child --mount-proc \
    "$cluster/node" "$1" "${address_of[$1]}" "$2" >"/mnt/log/$1" 2>&1 &
  launcher_of[$1]=$!
  until_true 10 first_child_of "${launcher_of[$1]}" >/dev/null || return
  init_of[$1]=$(first_child_of "${launcher_of[$1]}")
  until_true 10 has_own_network "${init_of[$1]}" || return
  ip link add "to-$1" type veth peer name uplink netns "${init_of[$1]}"
  ip link set "to-$1" master switch up
}

# To and from a computer, as a cable of that speed would.
limit_link() {  # NAME RATE
  limit_device "to-$1" "$2"
  on "$1" bash -c "$(declare -f limit_device); limit_device uplink $2"
}
limit_device() {  # DEVICE RATE
  tc qdisc replace dev "$1" root handle 1: htb default 1
  tc class replace dev "$1" parent 1: classid 1:1 htb rate "$2" quantum 3000
}

all_idle() { [[ $(on head sinfo --noheader --format='%D %T' 2>/dev/null) == '3 idle' ]]; }

start_cluster() {  # RATE
  ip link add switch type bridge stp_state 0 forward_delay 0
  ip link set switch up
  export SLURM_CONF=/mnt/slurm.conf
  start_computer head slurmctld
  local name
  for name in node1 node2 node3; do
    start_computer "$name" slurmd
    limit_link "$name" "$1"
  done
  until_true 30 all_idle || { tail -n 20 /mnt/log/*; return 1; } >&2
}

# Ending a computer's first process ends all of its others.
stop_cluster() {
  local name
  for name in "${!init_of[@]}"; do
    kill -KILL "${init_of[$name]}" 2>/dev/null || true
    wait "${launcher_of[$name]}" 2>/dev/null || true
  done
  ip link del switch 2>/dev/null || true
}

# Of what VMs are made of, by the name of the program.
vm_processes_on() { on "$1" ps -e -o comm= | grep -E '^(vmhop|qemu-system)' || true; }
