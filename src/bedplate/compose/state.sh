# A machine's own files beside a root that never changes: /var in a partition of its own, made on the first boot and sealed
# to the TPM where there is one; what was changed in /etc laid over the image's; the places /usr/lib/bedplate/state lists.
# All of it is there before systemd starts, which reads /etc first of all. The programs are those of the root: it is verified.

state=/var/lib/bedplate/state
aside=/run/bedplate/image

say() { $bb echo "bedplate: $1" | $bb tee /dev/kmsg >/dev/console; }

in_root() { PATH=/usr/sbin:/usr/bin $bb chroot /root "$@" 2>>/run/bedplate/said; }

# The last words of the program that failed.
said() { tail -n 1 /run/bedplate/said; }

find_var() {
	disk=$(readlink -f "/sys/class/block/${root_device##*/}/..")
	for part in "$disk"/*/uevent; do
		if grep -qsx "PARTNAME=var" "$part"; then
			part=${part%/uevent}
			var_device=/dev/${part##*/}
			return 0
		fi
	done
	return 1
}

# A device that was never booted. The partition stands in the table only when its file system is made: power may be lost here.
make_var() {
	if [ -c /dev/tpmrm0 ] && [ -f /run/systemd/tpm2-pcr-public-key.pem ]; then
		how=tpm
		set -- --tpm2-device=auto --tpm2-pcrs=7 --tpm2-public-key=/run/systemd/tpm2-pcr-public-key.pem --tpm2-public-key-pcrs=11
	else
		how=plain
		set --
	fi
	in_root /usr/sbin/modprobe loop || return 1
	in_root /usr/bin/systemd-repart --dry-run=no --pretty=no --discard=no --definitions="/usr/lib/bedplate/repart/$how" \
		"$@" "/dev/${disk##*/}" >/dev/null || return 1
	# The kernel does not know the name of a partition it was told of.
	var_device=$(/bin/findfs PARTLABEL=var) && [ -d "$disk/${var_device##*/}" ]
}

open_var() {
	if [ "$(dd if="$var_device" bs=4 count=1 2>/dev/null)" = LUKS ]; then
		in_root /usr/bin/systemd-cryptsetup attach var "$var_device" none tpm2-device=auto,headless=true,discard >/dev/null ||
			fail "/var cannot be opened: $(said)"
		var_device=/dev/mapper/var
	else
		say "/var is not encrypted: it was made on a machine without a TPM 2.0"
	fi
	# What it finds and mends it says in the kernel's log; whether the file system can be used the mount tells.
	in_root /usr/sbin/fsck.ext4 -p "$var_device" >/dev/kmsg
	$bb mount -t ext4 -o noatime,nodev "$var_device" /root/var || fail "cannot mount $var_device as /var"
}

# What the image has below /var and the machine has not, with its labels: everything on the first boot, and what a new
# version brings. Nothing that is there is changed. The note of which image it was comes last.
seed_var() {
	if cmp -s /root/usr/lib/os-release "/root$state/os-release"; then return; fi
	keep=--skip-old-files
	[ -f "/root$state/os-release" ] || keep=
	set --
	while read -r kind path _; do
		case $kind:$path in image:/var/*) set -- "$@" "--exclude=./${path#/var/}/*" ;; esac
	done </root/usr/lib/bedplate/state
	set -o pipefail
	in_root /usr/bin/tar -C "$aside/var" --one-file-system --xattrs "--xattrs-include=*" "$@" -cf - . |
		in_root /usr/bin/tar -C /var --xattrs "--xattrs-include=*" --numeric-owner -p ${keep:+"$keep"} -xf - ||
		fail "cannot write what the image has in /var: $(said)"
	$bb sync
	in_root /usr/bin/tar -C /usr/lib --xattrs "--xattrs-include=*" -cf - os-release |
		in_root /usr/bin/tar -C "$state" --xattrs "--xattrs-include=*" --numeric-owner -p -xf - ||
		fail "cannot write what the image has in /var: $(said)"
}

# $1: path; $2: options of the mount.
mount_own() {
	$bb mount --bind "/root$state$1" "/root$1" && $bb mount -o "remount,bind,$2" none "/root$1" || fail "cannot mount this machine's $1"
}

keep_state() {
	export DM_DISABLE_UDEV=1 TMPDIR=/run SYSTEMD_REPART_MKFS_OPTIONS_EXT4="-E lazy_itable_init=1,lazy_journal_init=1 -m 1"
	if [ -f /later-modules.sh ]; then
		set -f
		. /later-modules.sh
		set +f
	fi
	# The image's own, before something lies over it. /etc stays there to be compared with.
	mkdir -p -m 0755 "$aside/var" "$aside/etc" "$aside/kept"
	$bb mount --bind /root/var "$aside/var" && $bb mount --bind /root/etc "$aside/etc" || fail "cannot set the image's /var and /etc aside"
	kept=0
	while read -r kind path _; do
		[ "$kind" = image ] || continue
		kept=$((kept + 1))
		mkdir "$aside/kept/$kept"
		$bb mount --bind "/root$path" "$aside/kept/$kept" || fail "cannot set the image's $path aside"
	done </root/usr/lib/bedplate/state
	# With all that is mounted below them.
	for folder in dev proc sys run; do
		$bb mount --rbind "/$folder" "/root/$folder" || fail "cannot lend /$folder to the root"
	done

	find_var || make_var || fail "cannot make /var behind the last partition: $(said)"
	open_var
	seed_var

	$bb mount -t overlay -o "nosuid,nodev,noatime,lowerdir=/root/etc,upperdir=/root$state/etc/upper,workdir=/root$state/etc/work" etc /root/etc ||
		fail "cannot lay this machine's changes over /etc"
	kept=0
	while read -r kind path options; do
		case $kind in
		own) mount_own "$path" "$options" ;;
		image)
			kept=$((kept + 1))
			$bb mount --move "$aside/kept/$kept" "/root$path" || fail "cannot mount the image's $path"
			;;
		esac
	done </root/usr/lib/bedplate/state
	$bb mount -o remount,bind,nosuid,nodev,noatime none /root/var || fail "cannot mount /var without set-id programs"
	$bb umount "$aside/var"
	for folder in dev proc sys run; do $bb umount -l "/root/$folder"; done
	rm -f /run/bedplate/said
	rmdir "$aside"/kept/* "$aside/kept" "$aside/var"
	unset DM_DISABLE_UDEV TMPDIR SYSTEMD_REPART_MKFS_OPTIONS_EXT4
}
