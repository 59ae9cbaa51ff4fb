#!/bin/busybox sh
# First program of a node: opens the root file system the signed command line names, and hands over to it. Whatever goes
# wrong ends in a message and a reboot, so that boot counting can fall back to the other version; there is no shell.

# Applets called by their plain name run within this shell's own program, which saves half of the time. That needs /proc,
# and does not hold for mount and the like: those are started by path.
export PATH=/bin
bb=/bin/busybox

fail() {
	$bb echo "bedplate: $1" >/dev/console
	$bb echo "bedplate: cannot start this version; restarting in 10 seconds" >/dev/console
	$bb sleep 10
	$bb reboot -f
	# Only a kernel that refuses to restart comes here; the end of this program is a panic, and that restarts too.
	exit 1
}

$bb mount -t devtmpfs -o mode=0755,nosuid,noexec dev /dev || fail "cannot mount /dev"
$bb mount -t proc -o nosuid,nodev,noexec proc /proc || fail "cannot mount /proc"
$bb mount -t sysfs -o nosuid,nodev,noexec sys /sys || fail "cannot mount /sys"
$bb mount -t tmpfs -o mode=0755,nosuid,nodev,size=20% run /run || fail "cannot mount /run"

# What comes between root and systemd, where a machine keeps files of its own beside its root (state.sh).
keep_state() { :; }

# How this version's root is named and opened: name_root and open_root.
. /root.sh
name_root

# What the stub put here: the PCR signature that opens /var, and credentials.
mkdir -p /run/systemd /run/bedplate /run/credentials
for name in tpm2-pcr-signature.json tpm2-pcr-public-key.pem; do
	if [ -e "/.extra/$name" ]; then cp "/.extra/$name" "/run/systemd/$name"; fi
done
for folder in /.extra/credentials /.extra/global_credentials; do
	for file in "$folder"/*.cred; do
		[ -f "$file" ] || continue
		mkdir -p -m 0700 /run/credentials/@encrypted
		name=${file##*/}
		cp "$file" "/run/credentials/@encrypted/${name%.cred}"
		export ENCRYPTED_CREDENTIALS_DIRECTORY=/run/credentials/@encrypted
	done
done

# Drivers of buses are loaded where the machine has such a device, all else always. (The list is made by the build.)
set -f
scan() {
	# The buses the list below speaks of; all the other devices would be compared with each of its patterns for nothing.
	set +f
	aliases=$(cat /sys/bus/acpi/devices/*/modalias /sys/bus/pci/devices/*/modalias /sys/bus/virtio/devices/*/modalias \
		/sys/bus/vmbus/devices/*/modalias /sys/bus/xen/devices/*/modalias 2>/dev/null)
	set -f
}
load() {
	insmod "/lib/modules/$1" || echo "bedplate: module $1 was not loaded" >/dev/kmsg
}
load_for() {
	module=$1
	shift
	for alias in $aliases; do
		for pattern; do
			# shellcheck disable=SC2254 # aliases of modules are patterns
			case $alias in $pattern) load "$module"; return ;; esac
		done
	done
}
load_if() {
	if [ -d "/sys/module/$1" ]; then load "$2"; fi
}
scan
. /modules.sh
set +f

open_root
keep_state

for folder in dev proc sys run; do
	$bb mount --move "/$folder" "/root/$folder" || fail "cannot hand over /$folder"
done
exec $bb switch_root /root /usr/lib/systemd/systemd
fail "cannot start systemd"
