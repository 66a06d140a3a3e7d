# host-a and host-b, for the documents' commands. Each has processes, network, name, /etc, /run, /root
# and /usr/local of its own; programs and this tree are the machine's. Sourced in a network namespace
# that is the switch, by who is killed with all of it.
#
#   host-a 192.0.2.1 ── br0 ── 192.0.2.2 host-b        /srv/shared and /images are the disks of both

declare -A host_init=()
where=/root  # commands run in this directory
host_path=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin

make_switch() {
  ip link add br0 type bridge
  ip link set br0 up
}

make_root() {  # ROOT
  local entry own=' etc home images mnt opt proc root run srv sys tmp '
  mkdir -p "$1"
  mount -t tmpfs tmpfs "$1"
  for entry in /*; do
    entry=${entry#/}
    if [[ -L /$entry ]]; then
      cp -P "/$entry" "$1/$entry"
    elif [[ -d /$entry ]]; then
      mkdir "$1/$entry"
      [[ $own == *" $entry "* ]] || mount --rbind "/$entry" "$1/$entry"
    fi
  done
  chmod 1777 "$1/tmp"
  mkdir -p "$1/images" "$1/mnt/images" "$1/srv/shared" "$1$tree" "$1$build"
  mount --bind "$work/shared" "$1/srv/shared"
  mount --bind "$work/shared" "$1/images"
  mount --bind "$work/shared" "$1/mnt/images"
  mount --rbind "$tree" "$1$tree"
  mount --rbind "$build" "$1$build"
  mount --rbind /sys "$1/sys"
  mount -t tmpfs tmpfs "$1/usr/local"
  mkdir "$1/usr/local/"{bin,share}
  ln -s "$vmhop" "$1/usr/local/bin/vmhop"
}

make_etc() {  # ROOT NAME
  cp -a /etc/. "$1/etc"
  rm -rf "$1/etc/vmhop"
  mkdir -p "$1/etc/vmhop" "$1/run/sshd"
  printf '127.0.0.1 localhost\n192.0.2.1 host-a\n192.0.2.2 host-b\n' >"$1/etc/hosts"
  install -d -m 700 "$1/root/.ssh"
  cp "$work/ssh/user" "$1/root/.ssh/id_ed25519"
  cp "$work/ssh/user.pub" "$1/root/.ssh/authorized_keys"
  sed 's/^/host-a,host-b,192.0.2.1,192.0.2.2 /' "$work/ssh/host.pub" >"$1/root/.ssh/known_hosts"
  : >"$1/root/.ssh/config"
}

make_ssh_keys() {
  mkdir "$work/ssh"
  ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/user"
  ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/host"
  printf '%s\n' "HostKey $work/ssh/host" 'AuthorizedKeysFile /root/.ssh/authorized_keys' 'UsePAM no' \
    'StrictModes no' 'PermitRootLogin yes' 'Subsystem sftp internal-sftp' >"$work/ssh/sshd_config"
}

# The first process of a host: reaps what others leave, since vmhop asks whether processes are gone.
be_host() {  # NAME
  hostname "$1"
  make_root "$work/hosts/$1"
  make_etc "$work/hosts/$1" "$1"
  mount -t proc proc "$work/hosts/$1/proc"
  : >"$work/hosts/$1.made"
  exec chroot "$work/hosts/$1" /bin/bash -c 'while :; do sleep infinity & wait "$!"; done'
}

start_host() {  # NAME ADDRESS TAP…
  local name=$1 address=$2 tap init
  rm -f "$work/hosts/$name.made"
  unshare --mount --net --uts --pid --fork --kill-child "$0" --host "$name" 2>>"$work/logs/hosts.log" &
  local unshared=$!
  until [[ -e $work/hosts/$name.made ]]; do
    kill -0 "$unshared" || die "$name did not start"
    sleep 0.02
  done
  init=$(<"/proc/$unshared/task/$unshared/children")
  init=${init%% *}
  host_init[$name]=$init
  ip link add "port-$name" type veth peer name eth0 netns "$init"
  ip link set "port-$name" master br0 up
  nsenter --target "$init" --net ip -batch - <<END_OF_IP
link set lo up
address add $address/24 dev eth0
link set eth0 up
END_OF_IP
  for tap in "${@:3}"; do
    nsenter --target "$init" --net ip tuntap add "$tap" mode tap
  done
  on "$name" /usr/sbin/sshd -f "$work/ssh/sshd_config"
}

stop_hosts() {
  local name
  for name in "${!host_init[@]}"; do
    kill -KILL "${host_init[$name]}"
    ip link delete "port-$name" 2>/dev/null || true  # or it has gone already, with its other end
  done
  wait
  host_init=()
}

new_hosts() {
  stop_hosts
  start_host host-a 192.0.2.1 tap-web tap0
  start_host host-b 192.0.2.2 tap-web tap3
}

on() {  # HOST COMMAND…
  nsenter --target "${host_init[$1]}" --mount --net --uts --pid --root --wdns="$where" \
    env -i HOME=/root LC_ALL=C.UTF-8 PATH="$host_path" "${@:2}"
}
