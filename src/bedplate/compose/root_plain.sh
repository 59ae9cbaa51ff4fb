# A writable root: the command line names its partition. It is mounted read-only; systemd checks and remounts it.

name_root() {
	root= root_type=ext4
	for word in $(cat /proc/cmdline); do
		case $word in
		root=*) root=${word#root=} ;;
		rootfstype=*) root_type=${word#rootfstype=} ;;
		esac
	done
	case $root in
	PARTLABEL=?* | PARTUUID=?* | UUID=?* | LABEL=?*) ;;
	*) fail "the command line names no root partition" ;;
	esac
}

find_root() {
	root_device=$(/bin/findfs "$root" 2>/dev/null)
	[ -n "$root_device" ]
}

# What an encrypted root needs besides, where a track offers one (root_crypt.sh).
prepare_root() { :; }
leave_root() { :; }

open_root() {
	waited=0
	until find_root; do
		[ $waited -lt 150 ] || fail "no disk has the partition $root"
		waited=$((waited + 1))
		usleep 200000
	done
	prepare_root
	$bb mount -t "$root_type" -o ro "$root_device" /root || fail "cannot mount $root_device as $root_type"
	if [ -e /root/var/lib/bedplate-patch/current/complete ]; then
		if $bb mount -o remount,rw /root; then
			patch_check /root
			$bb mount -o remount,ro /root
		fi
	fi
	leave_root
}
