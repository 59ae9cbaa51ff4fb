# An encrypted root: opened with the TPM, and, where the switch says so, made from a plain one before its first mount.
# The first sector of the partition says how it is: nothing (ext4 leaves it unused), LUKS, or "bedplate-move N" while N
# pieces of 16 MiB are still to be moved. A piece is moved by 16 MiB towards the end, into the encrypted device, the last one
# first: where it goes lies what has been moved already, so that each step can be repeated after a power cut.

piece=16

say() { $bb echo "bedplate: $1" | $bb tee /dev/kmsg >/dev/console; }

# A credential of systemd's names, in plain text: a file the loader found on the ESP, or a string of the machine's firmware.
credential() {
	for folder in /.extra/credentials /.extra/global_credentials; do
		if [ -f "$folder/$1.cred" ]; then cat "$folder/$1.cred"; return; fi
	done
	strings /sys/firmware/dmi/tables/DMI 2>/dev/null | while read -r line; do
		case $line in
		"io.systemd.credential:$1="*) echo "${line#*=}" ;;
		"io.systemd.credential.binary:$1="*) echo "${line#*=}" | base64 -d ;;
		esac
	done
}

# A place for keys that does not outlive the initrd, and the drivers.
crypt_ready() {
	mkdir -m 0700 /crypt
	export DM_DISABLE_UDEV=1
	set -f
	. /later-modules.sh
	set +f
}

crypt_tpm() { [ -c /dev/tpmrm0 ] && [ -f /run/systemd/tpm2-pcr-public-key.pem ]; }

# $1: the device or file with the header. PCR 15 must be what it is before a root was opened.
crypt_bind() {
	/bin/systemd-cryptenroll --unlock-key-file=/crypt/key --tpm2-device=auto \
		--tpm2-pcrs=7+15:sha256=0000000000000000000000000000000000000000000000000000000000000000 \
		--tpm2-public-key=/run/systemd/tpm2-pcr-public-key.pem --tpm2-public-key-pcrs=11 "$1" >/crypt/said 2>&1
}

# $@: further options of cryptsetup. The key goes to the mapping itself: the root can grow without asking for it again.
crypt_open() {
	/bin/cryptsetup open --type luks2 --disable-keyring --allow-discards "$@" "$root_device" root >/crypt/said 2>&1 || return 1
	# The header is not signed: one that was changed could ask for no cipher, and a root of its writer's would run beside the key.
	table=$(/bin/dmsetup table root)
	case $table in
	*"
"*) ;;
	"0 "*" crypt aes-xts-plain64 "*) return 0 ;;
	esac
	/bin/cryptsetup close root
	fail "the header of the encrypted root was changed: it does not say aes-xts-plain64 for all of it"
}

crypt_by_tpm() { crypt_tpm && crypt_open --token-only --token-type systemd-tpm2 "$@"; }

# Once the root is open nothing may unseal its key any more, whoever runs then: PCR 15 leaves the value keys are sealed to.
close_tpm() {
	[ -c /dev/tpmrm0 ] || return 0
	exec 3<>/dev/tpmrm0
	# TPM2_PCR_Extend of PCR 15, empty password, one SHA-256 digest.
	printf '\200\002\000\000\000\101\000\000\001\202\000\000\000\017\000\000\000\011\100\000\000\011\000\000\000\000\000\000\000\000\001\000\013%s' \
		'bedplate: the root is opened now' >&3
	answer=$(dd bs=64 count=1 <&3 2>/dev/null | od -An -v -t x1 -j 6 -N 4)
	exec 3>&-
	[ "$(echo $answer)" = "00 00 00 00" ]
}

# --- The switch --------------------------------------------------------------------------------------------------------

encrypt_if_asked() {
	wanted=$(credential bedplate.encrypt)
	case $wanted in
	'' | off) return 0 ;;
	tpm2) without="fail" ;;
	tpm2-or-plain) without="say" ;;
	*) fail "the credential bedplate.encrypt says \"$wanted\"; it can say tpm2, tpm2-or-plain or off" ;;
	esac
	if ! crypt_tpm; then
		$without "encryption was asked for, but this machine has no TPM 2.0 that systemd-stub could measure into: the disk is not encrypted"
		return 0
	fi
	size=$(($(cat "/sys/class/block/${root_device##*/}/size") / 2048))
	# ext4's superblock: count of blocks, and their size as a power of two of 1024 bytes.
	set -- $(od -An -v -t u4 -j 1028 -N 4 "$root_device") $(od -An -v -t u4 -j 1048 -N 4 "$root_device")
	left=$(((($1 << $2) / 1024 + piece) / piece))
	if [ $(((left + 2) * piece)) -gt $size ]; then
		$without "encryption was asked for, but the root has used its partition's room already: it must be asked for before the first boot; the disk is not encrypted"
		return 0
	fi
	crypt_ready
	crypt_header || fail "the header cannot be made: $(tail -n 1 /crypt/said)"
	# It must open before anything is moved.
	crypt_by_tpm --header /crypt/header || fail "this machine's TPM does not open what was sealed to it: $(tail -n 1 /crypt/said)"
	dd if=/crypt/header of="$root_device" bs=1M seek=$((size - piece)) conv=notrunc,fsync 2>/dev/null || fail "cannot write to $root_device"
	crypt_mark
	crypt_move
}

crypt_header() {
	(umask 077 && head -c 64 /dev/urandom >/crypt/key && truncate -s ${piece}M /crypt/header) || return 1
	/bin/cryptsetup luksFormat --batch-mode --type luks2 --header /crypt/header --offset $((piece * 2048)) \
		--cipher aes-xts-plain64 --key-size 512 --sector-size 512 --hash sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
		--key-file /crypt/key "$root_device" >/crypt/said 2>&1 || return 1
	crypt_bind /crypt/header || return 1
	recovery=$(credential bedplate.encrypt.recovery)
	case $recovery in
	'') say "no recovery key: without this TPM the disk cannot be opened (make one: systemd-cryptenroll --recovery-key)" ;;
	print)
		/bin/systemd-cryptenroll --unlock-key-file=/crypt/key --recovery-key /crypt/header >/crypt/recovery 2>/crypt/said || return 1
		$bb echo "bedplate: recovery key of this disk, shown this once: $(cat /crypt/recovery)" >/dev/console
		rm /crypt/recovery
		;;
	????????????????*)
		printf %s "$recovery" >/crypt/recovery
		/bin/cryptsetup luksAddKey --batch-mode --key-file /crypt/key --pbkdf pbkdf2 --hash sha256 --iter-time 500 \
			/crypt/header /crypt/recovery >/crypt/said 2>&1 || return 1
		rm /crypt/recovery
		;;
	*) fail "the credential bedplate.encrypt.recovery must be \"print\" or a key of at least 16 characters" ;;
	esac
	# The key the header was made with lies in this memory only, and ends here.
	/bin/cryptsetup luksKillSlot --batch-mode /crypt/header 0 >/crypt/said 2>&1 && rm /crypt/key
}

crypt_mark() {
	{ echo "bedplate-move $left" && head -c 512 /dev/zero; } |
		dd of="$root_device" bs=512 count=1 iflag=fullblock conv=notrunc,fsync 2>/dev/null || fail "cannot write to $root_device"
}

crypt_move() {
	all=$left
	say "encrypting the root, $((left * piece)) MiB; if it is interrupted it goes on at the next start"
	while [ $left -gt 0 ]; do
		left=$((left - 1))
		dd if="$root_device" of=/dev/mapper/root bs=1M skip=$((left * piece)) seek=$((left * piece)) count=$piece \
			conv=notrunc,fsync 2>/dev/null || fail "cannot move the root's piece $left"
		crypt_mark
		if [ $((left % 16)) = 0 ]; then say "encrypting: $(((all - left) * 100 / all)) %"; fi
	done
	# The moved first piece holds the mark; then the header takes the place of the plain one, its first block last.
	head -c 512 /dev/zero | dd of=/dev/mapper/root bs=512 iflag=fullblock conv=notrunc,fsync 2>/dev/null &&
		dd if=/crypt/header of="$root_device" bs=4k skip=1 seek=1 conv=notrunc,fsync 2>/dev/null &&
		dd if=/crypt/header of="$root_device" bs=4k count=1 conv=notrunc,fsync 2>/dev/null ||
		fail "cannot write the header"
	/bin/cryptsetup close root && crypt_by_tpm || fail "the encrypted root does not open: $(tail -n 1 /crypt/said)"
	dd if=/dev/zero of="$root_device" bs=1M seek=$((size - piece)) count=$piece conv=notrunc,fsync 2>/dev/null ||
		fail "cannot write to $root_device"
	$bb blockdev --flushbufs "$root_device"
	say "the root is encrypted"
	crypt_opened
}

crypt_go_on() {
	left=${1#* }
	size=$(($(cat "/sys/class/block/${root_device##*/}/size") / 2048))
	crypt_ready
	dd if="$root_device" of=/crypt/header bs=1M skip=$((size - piece)) count=$piece 2>/dev/null || fail "cannot read $root_device"
	crypt_by_tpm --header /crypt/header || crypt_by_key --header /crypt/header
	crypt_move
}

# --- Every later boot --------------------------------------------------------------------------------------------------

crypt_opened() {
	: >/run/bedplate/root-encrypted
	root_device=/dev/mapper/root
}

open_encrypted() {
	crypt_ready
	crypt_by_tpm || crypt_by_key
	crypt_opened
}

crypt_by_key() {
	if crypt_tpm; then
		say "the TPM does not open the disk: it is another machine's, or the firmware's keys or Secure Boot were changed ($(tail -n 1 /crypt/said))"
	else
		say "the disk is encrypted and this machine has no TPM"
	fi
	say "put the disk back, or type its recovery key; without one for 5 minutes this machine restarts"
	for try in 1 2 3; do
		$bb echo -n "recovery key: " >/dev/console
		key=
		read -r -s -t 300 key </dev/console || fail "no recovery key was typed"
		$bb echo >/dev/console
		(umask 077 && printf %s "$key" >/crypt/key)
		if crypt_open --key-file /crypt/key "$@"; then
			crypt_ask_to_bind "$@"
			rm /crypt/key
			return 0
		fi
		say "that is not its recovery key"
	done
	fail "the disk was not opened"
}

crypt_ask_to_bind() {
	if [ $# != 0 ] || ! crypt_tpm; then return; fi
	$bb echo "bedplate: opened. Shall this machine's TPM open it from now on? Type yes within a minute, or it asks again at the next start." >/dev/console
	answer=
	read -r -t 60 answer </dev/console
	if [ "$answer" = yes ]; then
		# The other TPM's slot goes first: cryptenroll takes one of the same policy for the one that is wanted, and adds none.
		if /bin/systemd-cryptenroll --wipe-slot=tpm2 "$root_device" >/crypt/said 2>&1 && crypt_bind "$root_device"; then say "the disk is bound to this machine's TPM"; else say "the disk was not bound: $(tail -n 1 /crypt/said)"; fi
	fi
}

# --- What the way to open a plain root calls ---------------------------------------------------------------------------

prepare_root() {
	# Not sealed, so systemd could not read them. Where no others are it shall look for the firmware's as it always does.
	if [ -d /run/credentials/@encrypted ]; then
		rm -f /run/credentials/@encrypted/bedplate.encrypt*
		if rmdir /run/credentials/@encrypted 2>/dev/null; then unset ENCRYPTED_CREDENTIALS_DIRECTORY; fi
	fi
	found=$(head -c 32 "$root_device" 2>/dev/null)
	case $found in
	LUKS*) open_encrypted ;;
	"bedplate-move "*) crypt_go_on "$found" ;;
	*) encrypt_if_asked ;;
	esac
}

# Whatever root it is: what runs from here on is the disk's, and another disk's must not get at this one's key.
leave_root() {
	close_tpm && return
	[ ! -e /run/bedplate/root-encrypted ] || fail "the TPM does not take the mark that the root was opened"
	say "the TPM does not take the mark that the root was opened"
}
