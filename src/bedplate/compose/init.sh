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

roothash=
for word in $(cat /proc/cmdline); do
	case $word in roothash=*) roothash=${word#roothash=} ;; esac
done
[ ${#roothash} -eq 64 ] || fail "the command line names no root hash"

# The first half of the hash names the root partition, the second half that of its hash tree (Discoverable Partitions).
uuid_of() {
	echo "${1:0:8}-${1:8:4}-${1:12:4}-${1:16:4}-${1:20:12}"
}
root_uuid=$(uuid_of "${roothash:0:32}")
hash_uuid=$(uuid_of "${roothash:32:32}")

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
	set +f
	aliases=$(cat /sys/bus/*/devices/*/modalias 2>/dev/null)
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

find_partitions() {
	root_device=$(/bin/findfs "PARTUUID=$root_uuid" 2>/dev/null)
	hash_device=$(/bin/findfs "PARTUUID=$hash_uuid" 2>/dev/null)
	[ -n "$root_device" ] && [ -n "$hash_device" ]
}
waited=0
until find_partitions; do
	[ $waited -lt 150 ] || fail "no disk has the partitions $root_uuid (root) and $hash_uuid (its hash tree)"
	waited=$((waited + 1))
	usleep 200000
done

# The verity superblock (cryptsetup's format 1): block sizes at 64, count of data blocks at 72, salt at 80. What is read
# here is not trusted: with any other value the root hash does not fit.
magic=$(od -An -v -t x1 -N 8 "$hash_device")
[ "$(echo $magic)" = "76 65 72 69 74 79 00 00" ] || fail "$hash_device holds no verity hash tree"
set -- $(od -An -v -t u4 -j 64 -N 8 "$hash_device") $(od -An -v -t u8 -j 72 -N 8 "$hash_device") \
	$(od -An -v -t u2 -j 80 -N 2 "$hash_device")
data_block=$1 hash_block=$2 blocks=$3 salt_size=$4
salt=
if [ "$salt_size" -gt 0 ] && [ "$salt_size" -le 256 ]; then
	for byte in $(od -An -v -t x1 -j 88 -N "$salt_size" "$hash_device"); do salt=$salt$byte; done
fi

table="0 $((blocks * data_block / 512)) verity 1 $root_device $hash_device $data_block $hash_block $blocks 1 sha256 $roothash ${salt:--} 1 panic_on_corruption"
# The identifier is veritysetup's, so that its "status" knows the device.
DM_DISABLE_UDEV=1 /bin/dmsetup create root --readonly --uuid "CRYPT-VERITY-${roothash:0:32}-root" --table "$table" || fail "dm-verity refused the root hash"
$bb mount -t erofs -o ro,nodev /dev/mapper/root /root || fail "the root file system does not fit the signed root hash"

# A disk without a partition called "var" has never been booted.
disk=$(readlink -f "/sys/class/block/${root_device##*/}/..")
grep -qsx "PARTNAME=var" "$disk"/*/uevent || : >/run/bedplate/no-var

for folder in dev proc sys run; do
	$bb mount --move "/$folder" "/root/$folder" || fail "cannot hand over /$folder"
done
exec $bb switch_root /root /usr/lib/systemd/systemd
fail "cannot start systemd"
