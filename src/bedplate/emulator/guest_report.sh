# Runs inside the guest, handed over as a credential: waits until the boot is over and says what became of it.
# Every section starts with "@NAME" alone on a line. Nothing here changes the guest but the test container.
set +e +u
export LC_ALL=C SYSTEMD_COLORS=0 SYSTEMD_PAGER= SYSTEMD_URLIFY=0
out=/run/bedplate-report.txt
port=
for p in /sys/class/virtio-ports/*; do
  [ "$(cat "$p/name" 2>/dev/null)" = bedplate.report ] && port=/dev/${p##*/}
done
[ -n "$port" ] || exit 0
read -r uptime idle </proc/uptime
printf '\n=== bedplate guest up %s ===\n' "$uptime" >"$port"
section() { printf '@%s\n' "$1"; }
{
section state
# A unit that restarts for ever keeps the boot from ending: then the state is "starting" and the jobs say why.
timeout 150 systemctl is-system-running --wait || systemctl is-system-running
section jobs
systemctl list-jobs --no-legend --no-pager
section failed
systemctl list-units --failed --plain --no-legend --no-pager | while read -r unit rest; do printf '%s\n' "$unit"; done
section times
systemctl show -p FirmwareTimestampMonotonic -p LoaderTimestampMonotonic -p KernelTimestampMonotonic \
  -p InitRDTimestampMonotonic -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic
section init
# A record of /dev/kmsg is "level,number,microseconds,flags;text"; a read at the end fails instead of waiting.
dd if=/dev/kmsg iflag=nonblock bs=8192 2>/dev/null | while IFS= read -r line; do
  case $line in
    *';Run /init as init process'*) line=${line#*,*,}; printf '%s\n' "${line%%,*}"; break ;;
  esac
done
section secureboot
od -An -tu1 -v /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
section setupmode
od -An -tu1 -v /sys/firmware/efi/efivars/SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c
section tpm
cat /sys/class/tpm/tpm0/tpm_version_major
section pcr11
cat /sys/class/tpm/tpm0/pcr-sha256/11
section pcrs
for n in 0 1 2 3 4 5 7 11 12 13; do printf '%s=' "$n"; cat "/sys/class/tpm/tpm0/pcr-sha256/$n"; done
section dm
for d in /sys/block/dm-*; do
  [ -e "$d/dm/name" ] || continue
  printf '%s %s ro=%s dev=%s\n' "$(cat "$d/dm/name")" "$(cat "$d/dm/uuid")" "$(cat "$d/ro")" "$(cat "$d/dev")"
done
section rootdev
while read -r id parent devno root target rest; do [ "$target" = / ] && printf '%s %s\n' "$devno" "$rest"; done </proc/self/mountinfo
section verity
veritysetup=$(command -v veritysetup || echo /usr/sbin/veritysetup)
for n in root usr; do [ -e "/dev/mapper/$n" ] && "$veritysetup" status "$n"; done
section cmdline
cat /proc/cmdline
section lockdown
cat /sys/kernel/security/lockdown
section selinux
[ ! -r /sys/fs/selinux/enforce ] || printf '%s\n' "$(cat /sys/fs/selinux/enforce)" # it ends without a newline
section denials
# What was refused before auditd ran is in the kernel's log, the rest is in its own.
{ journalctl -b -k --no-pager -q -o cat; [ ! -r /var/log/audit/audit.log ] || cat /var/log/audit/audit.log; } | grep -o 'avc:  *denied.*'
section sigenforce
cat /sys/module/module/parameters/sig_enforce
section osrelease
cat /etc/os-release
section kernel
uname -r
section mounts
cat /proc/self/mounts
section listen
if command -v ss >/dev/null; then ss -H -l -n -t -u -p; else cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6; fi
section processes
for p in /proc/[0-9]*; do
  IFS= read -r comm <"$p/comm" && [ -e "$p/exe" ] && printf '%s %s\n' "${p#/proc/}" "$comm"
done 2>/dev/null
section errors
journalctl -b -p err --no-hostname --no-pager -q -o short-monotonic -n 40
section blame
systemd-analyze blame --no-pager | head -n 15
section memory
cat /proc/meminfo | head -n 3
section container
for d in /sys/block/*; do
  [ "$(cat "$d/serial" 2>/dev/null)" = bedplate-oci ] || continue
  dev=/dev/${d##*/}
  begin=$(cut -d' ' -f1 /proc/uptime)
  systemctl start containerd.service
  ctr -n bedplate-test images import "$dev" 2>&1 | tail -n 3
  ref=$(ctr -n bedplate-test images list -q | head -n 1)
  printf 'image=%s\n' "$ref"
  timeout 60 ctr -n bedplate-test run --rm "$ref" bedplate-proof 2>&1 | tail -n 5
  printf 'exit=%s\n' "${PIPESTATUS[0]}"
  printf 'begin=%s end=%s\n' "$begin" "$(cut -d' ' -f1 /proc/uptime)"
done
section end
} >"$out" 2>/run/bedplate-report.err
{
  printf '\n=== bedplate report %s %s ===\n' "$(wc -c <"$out")" "$(sha256sum "$out" | cut -d' ' -f1)"
  base64 "$out"
  printf '=== bedplate report end ===\n'
} >"$port"
