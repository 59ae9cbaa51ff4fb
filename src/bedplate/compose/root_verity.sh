# A verified root: the command line names the root hash of dm-verity.

uuid_of() {
	echo "${1:0:8}-${1:8:4}-${1:12:4}-${1:16:4}-${1:20:12}"
}

name_root() {
	roothash=
	for word in $(cat /proc/cmdline); do
		case $word in roothash=*) roothash=${word#roothash=} ;; esac
	done
	[ ${#roothash} -eq 64 ] || fail "the command line names no root hash"

	# The first half of the hash names the root partition, the second half that of its hash tree (Discoverable Partitions).
	root_uuid=$(uuid_of "${roothash:0:32}")
	hash_uuid=$(uuid_of "${roothash:32:32}")
}

find_partitions() {
	root_device=$(/bin/findfs "PARTUUID=$root_uuid" 2>/dev/null)
	hash_device=$(/bin/findfs "PARTUUID=$hash_uuid" 2>/dev/null)
	[ -n "$root_device" ] && [ -n "$hash_device" ]
}

# In case this boot comes to no end: name another version for the next start. The loader deletes the name when it reads it,
# and a boot that is found good takes it back. So a root that is damaged after it was blessed leads to the other slot.
vars=/sys/firmware/efi/efivars
loader=4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
# Strings of the loader are UTF-16, each ended by a zero; before them are four bytes of attributes.
names() {
	tail -c +5 "$vars/$1-$loader" | tr '\000' '|' | sed 's/\(.\)|/\1/g' | tr '|' '\n'
}
name_another_version() {
	[ -d "$vars" ] || return
	$bb mount -t efivarfs -o nosuid,nodev,noexec efivarfs "$vars" || return
	[ -e "$vars/LoaderEntries-$loader" ] && [ -e "$vars/LoaderEntrySelected-$loader" ] || return
	selected=$(names LoaderEntrySelected)
	for entry in $(names LoaderEntries); do
		case $entry in
			"$selected") ;;
			*.efi)
				# One write, as the firmware wants it.
				{
					printf '\007\000\000\000'
					printf '%s\n' "$entry" | sed 's/./&\n/g' | grep . | tr '\n' '\000'
					printf '\000\000'
				} | dd bs=4096 iflag=fullblock of="$vars/LoaderEntryOneShot-$loader" 2>/dev/null ||
					echo "bedplate: cannot name $entry for the next start" >/dev/kmsg
				return
				;;
		esac
	done
}

open_root() {
	name_another_version
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
}
