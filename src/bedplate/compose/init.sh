#!/bin/busybox sh
# First program of a node: opens the root file system the signed command line names, and hands over to it. Whatever goes
# wrong ends in a message and a reboot, so that boot counting can fall back to the other version; there is no shell.

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
for word in $($bb cat /proc/cmdline); do
	case $word in roothash=*) roothash=${word#roothash=} ;; esac
done
[ ${#roothash} -eq 64 ] || fail "the command line names no root hash"

# The first half of the hash names the root partition, the second half that of its hash tree (Discoverable Partitions).
uuid_of() {
	$bb echo "$1" | $bb sed 's/^\(.\{8\}\)\(.\{4\}\)\(.\{4\}\)\(.\{4\}\)\(.\{12\}\)$/\1-\2-\3-\4-\5/'
}
half=${roothash#????????????????????????????????}
root_uuid=$(uuid_of "${roothash%"$half"}")
hash_uuid=$(uuid_of "$half")

# What the stub put here: the PCR signature that opens /var, and credentials.
$bb mkdir -p /run/systemd /run/bedplate /run/credentials
for name in tpm2-pcr-signature.json tpm2-pcr-public-key.pem; do
	if [ -e "/.extra/$name" ]; then $bb cp "/.extra/$name" "/run/systemd/$name"; fi
done
for folder in /.extra/credentials /.extra/global_credentials; do
	for file in "$folder"/*.cred; do
		[ -f "$file" ] || continue
		$bb mkdir -p -m 0700 /run/credentials/@encrypted
		name=${file##*/}
		$bb cp "$file" "/run/credentials/@encrypted/${name%.cred}"
		export ENCRYPTED_CREDENTIALS_DIRECTORY=/run/credentials/@encrypted
	done
done

# Drivers of buses are loaded where the machine has such a device, all else always. (The list is made by the build.)
set -f
scan() {
	set +f
	aliases=$($bb cat /sys/bus/*/devices/*/modalias 2>/dev/null)
	set -f
}
load() {
	$bb insmod "/lib/modules/$1" || $bb echo "bedplate: module $1 was not loaded" >/dev/kmsg
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
	root_device=$(findfs "PARTUUID=$root_uuid" 2>/dev/null)
	hash_device=$(findfs "PARTUUID=$hash_uuid" 2>/dev/null)
	[ -n "$root_device" ] && [ -n "$hash_device" ]
}
waited=0
until find_partitions; do
	[ $waited -lt 150 ] || fail "no disk has the partitions $root_uuid (root) and $hash_uuid (its hash tree)"
	waited=$((waited + 1))
	$bb usleep 200000
done

# The verity superblock (cryptsetup's format 1): block sizes at 64, count of data blocks at 72, salt at 80. What is read
# here is not trusted: with any other value the root hash does not fit.
number() {
	$bb dd if="$hash_device" bs=1 skip="$1" count="$2" 2>/dev/null | $bb od -An -t "u$2" | $bb tr -d ' \n'
}
bytes() {
	$bb dd if="$hash_device" bs=1 skip="$1" count="$2" 2>/dev/null | $bb od -An -v -t x1 | $bb tr -d ' \n'
}
[ "$(bytes 0 8)" = 7665726974790000 ] || fail "$hash_device holds no verity hash tree"
data_block=$(number 64 4)
hash_block=$(number 68 4)
blocks=$(number 72 8)
salt_size=$(number 80 2)
salt=-
if [ "$salt_size" -gt 0 ] && [ "$salt_size" -le 256 ]; then salt=$(bytes 88 "$salt_size"); fi

table="0 $((blocks * data_block / 512)) verity 1 $root_device $hash_device $data_block $hash_block $blocks 1 sha256 $roothash $salt 1 panic_on_corruption"
dmsetup create root --readonly --noudevsync --noudevrules --table "$table" || fail "dm-verity refused the root hash"
$bb mount -t erofs -o ro,nodev /dev/mapper/root /root || fail "the root file system does not fit the signed root hash"

# A disk without a partition called "var" has never been booted.
disk=$($bb readlink -f "/sys/class/block/${root_device##*/}/..")
$bb grep -qsx "PARTNAME=var" "$disk"/*/uevent || : >/run/bedplate/no-var

for folder in dev proc sys run; do
	$bb mount --move "/$folder" "/root/$folder" || fail "cannot hand over /$folder"
done
exec $bb switch_root /root /usr/lib/systemd/systemd
fail "cannot start systemd"
