"""Runs in the guest: installs packages one by one as `dnf install` does, starts what they bring, and looks for trouble.

Standard input: JSON, a list of {"name", "units", "check"}. Standard output: one JSON object for each, as soon as it is
known, and a last one for taking everything away again; an empty list of problems says that all went well. A package
that fails, or takes too long, does not keep the next ones from their turn. dnf's own main program runs in a process
forked after its modules were loaded: on an emulated processor loading them takes longer than installing. Units are
stopped and disabled before the next package comes: two of them may want one port.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dnf.cli.main
from audit_log import AuditLog, denials

FAILED = Path("/var/lib/bedplate/failed")
# Whatever comes and goes, these go on.
KEPT = {
    "auditd.service",
    "chrony.service",
    "cron.service",
    "dbus-broker.service",
    "ssh.service",
    "systemd-journald.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-udevd.service",
}


def ask(command, seconds=900):
    """Exit code and output; 124 when it took too long. Through a pipe: not every domain may write to a file of /tmp."""
    with subprocess.Popen(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            words, code = process.communicate(timeout=seconds)[0], process.wait()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            words, code = f"no end after {seconds} s: {command}", 124
    return code, words.strip()


def run_dnf(*arguments, seconds=3600):
    """Exit code and output of ``dnf``; the alarm ends one that hangs."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            signal.alarm(seconds)
            code = 70
            try:
                code = dnf.cli.main.main(["-y", *arguments])
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


def installed():
    names = ask("rpm -qa --qf '%{NAME}.%{ARCH}\\n'")[1].split()
    return {name for name in names if not name.startswith("gpg-pubkey")}


class Denials:
    """What SELinux denied since it was last asked; also when the answer would not be complete."""

    def __init__(self):
        self.log, self.lost = AuditLog(), lost_records()

    def new(self):
        lines, missed = self.log.new()
        problems = [f"denied: {text}" for text in denials(lines)]
        lost, self.lost = self.lost, lost_records()
        if missed or lost != self.lost:
            problems.append(f"audit records are missing: rotated away {missed}, lost by the kernel {self.lost - lost}")
        return problems


def lost_records():
    """How many audit records the kernel could not hand to auditd since the boot."""
    words = ask("auditctl -s")[1].split()
    return int(words[words.index("lost") + 1])


def trouble():
    """Triggers and units that failed."""
    names = sorted(path.name for path in FAILED.iterdir() if not path.name.startswith("."))
    units = ask("systemctl --failed --plain --no-legend")[1].splitlines()
    return [f"trigger: {name}" for name in names] + [f"failed: {line}" for line in units]


def start(unit):
    """Problems of starting a unit, and the domains its processes run in."""
    code, words = ask(
        f"systemctl enable --no-reload {unit} && systemctl start {unit}"
        f" && for i in $(seq 30); do systemctl is-active -q {unit} && exit 0; sleep 1; done; exit 1"
    )
    problems = []
    if code != 0:
        problems.append(f"unit: {unit}: {words[-1000:]}; {ask(f'journalctl -b -o cat -n 25 -u {unit}')[1]}")
    pids = ask(f"cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs 2>/dev/null")[1].split()
    domains = ask(f"ps -o label= -p {','.join(pids)} | cut -d: -f3 | sort -u")[1].split() if pids else []
    return problems, domains


def one(package, denied, before):
    begin = time.time()
    problems, domains = [], []
    code, output = run_dnf("install", package["name"])
    took = time.time() - begin
    if code != 0:
        problems.append(f"dnf: exit {code}: {output[-1500:]}")
    after = installed()
    if after == before and f"{package['name']}-" not in output:
        problems.append("nothing was installed")
    # The driver enables units without having all of them read again, and systemd says so.
    said = [
        line
        for line in output.splitlines()
        if line.lower().startswith(("warning:", "error:")) and "daemon-reload" not in line
    ]
    problems += [f"said: {line}" for line in said]
    for unit in package["units"]:
        more, seen = start(unit)
        problems += more
        domains += seen
    if package["check"]:
        code, words = ask(package["check"])
        if code != 0:
            problems.append(f"check: exit {code}: {words[-1500:]}")
    if package["units"]:
        names = " ".join(package["units"])
        code, words = ask(f"systemctl disable --no-reload {names} && systemctl stop {names}")
        if code != 0:
            problems.append(f"stop: {words}")
    problems += trouble() + denied.new()
    if problems:
        ask(f"rm -f {FAILED}/*; systemctl reset-failed")
    ask("rm -rf /var/cache/dnf/*/packages")
    return after, {
        "name": package["name"],
        "packages": len(after - before),
        "install_s": round(took, 1),
        "total_s": round(time.time() - begin, 1),
        "domains": domains,
        "problems": problems,
    }


def running():
    """Services of the system itself that run."""
    words = ask("systemctl list-units --type=service --state=running --plain --no-legend")[1].splitlines()
    return KEPT & {line.split()[0] for line in words if line}


def undo(names, denied, ran):
    """Everything that came is taken away in one transaction; what ``ran`` before it came still does."""
    begin = time.time()
    code, output = run_dnf("remove", "--noautoremove", *sorted(names))
    problems = [f"dnf: exit {code}: {output[-1500:]}"] if code != 0 else []
    problems += [f"still there: {name}" for name in sorted(names & installed())]
    problems += [f"runs no more: {unit}" for unit in sorted(ran - running())]
    problems += trouble() + denied.new()
    links = ask("find /etc/systemd/system /usr/bin /usr/sbin -xtype l ! -lname /dev/null")[1].split()
    problems += [f"link to nothing: {path}" for path in links]
    return {"name": "(removal)", "packages": len(names), "total_s": round(time.time() - begin, 1), "problems": problems}


def main():
    packages = json.load(sys.stdin)
    denied, first, ran = Denials(), installed(), running()
    known = first
    for package in packages:
        known, result = one(package, denied, known)
        print(json.dumps(result), flush=True)
    print(json.dumps(undo(known - first, denied, ran)), flush=True)


main()
