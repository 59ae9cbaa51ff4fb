"""A server that is patched, and the repository beside it whose states a test decides."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.repository import make_repository
from tests.support.revised import revised
from tests.support.server import BOOT_SECONDS, DENIALS, Server, booted_server, server_image

from bedplate.emulator.options import DiskForm
from bedplate.flows.definition import read_definition
from bedplate.flows.keys import key_store
from bedplate.flows.locks import read_lock_file
from bedplate.flows.repository import updateinfo
from bedplate.flows.workspace import Workspace
from bedplate.model.advisory import AdvisedPackage, Advisory
from bedplate.packages.repository import RepositoryPackage, write_repository
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.sign import sign_rpms
from bedplate.toolchain.run import Toolbox

ADVISORY = "BSA-TEST-1"
# A busy machine takes its time; how long the system is watched is tested elsewhere.
CONFIG = """[patch]
exclude = ["vim*"]
[health]
settle_seconds = 300
watch_seconds = 2
"""
STATE = "/var/lib/bedplate-patch/current/state"
CHANGING = f"until grep -qs '^applying' {STATE}; do sleep 0.1; done"


@dataclass
class Depot:
    """A repository on the disk: ``publish`` makes its next state."""

    workspace: Workspace
    root: Path
    work: Path
    revision: int = 1_800_000_000

    def __post_init__(self) -> None:
        self.definition = read_definition(self.workspace)
        self.signer = key_store(self.workspace, self.definition).signer("packages")
        self.folder = self.root / self.definition.distro.stream / "x86_64"
        self.first = {path.name for path in (self.folder / "Packages").iterdir()}
        self.work.mkdir(parents=True, exist_ok=True)

    def publish(self, suffix: str, packages: Mapping[str, Mapping[str, bytes]], security: str = "") -> None:
        """The repository's first packages, and later versions of some.

        Args:
            suffix: What is put behind their release.
            packages: Name -> files that have another content in it.
            security: The package whose new version an advisory names.
        """
        place = self.folder / "Packages"
        for path in place.iterdir():
            if path.name not in self.first:
                path.unlink()
        made = {name: revised(self._first(name), suffix, self.work, files) for name, files in packages.items()}
        sign_rpms([(path, place / path.name) for path in made.values()], self.signer, self.workspace.jobs)
        extra = {}
        if security:
            new = RpmPackage.open(made[security])
            advised = (AdvisedPackage(new.nevra, new.source),)
            extra["updateinfo"] = updateinfo(self.definition, [Advisory(ADVISORY, ADVISORY, 1_767_225_600, advised)])
        self.revision += 1
        write_repository(
            self.folder,
            [RepositoryPackage(path, f"Packages/{path.name}") for path in sorted(place.glob("*.rpm"))],
            revision=self.revision,
            cache=self.root / "descriptions",
            signer=self.signer,
            extra=extra,
        )

    def _first(self, name: str) -> Path:
        for candidate in sorted((self.folder / "Packages").glob(f"{name}-*.rpm")):
            if candidate.name in self.first and RpmPackage.open(candidate).nevra.name == name:
                return candidate
        raise AssertionError(f"the repository has no {name}")


@dataclass(frozen=True)
class Patched:
    """The machine, and the repository it installs from. Its disk holds what it wrote when the emulator is killed."""

    server: Server
    depot: Depot

    def words(self, script: str) -> list[str]:
        """What a script prints, which must end well."""
        done = self.server.ask(script)
        assert done.code == 0, f"{script}: {done.code}\n{done.text}{done.stderr}"
        return done.text.split()

    def patch(self, arguments: str) -> tuple[int, dict[str, Any]]:
        """``bedplate-patch ARGUMENTS --json``: its exit status and its report."""
        done = self.server.ask(f"bedplate-patch {arguments} --json")
        try:
            return done.code, json.loads(done.text)
        except ValueError as error:
            raise AssertionError(f"no report: {done.code} {done.text}{done.stderr}") from error

    def packages(self) -> list[str]:
        """What is installed."""
        return self.words("rpm -qa | sort")

    def clock(self, days: int, clock: str) -> None:
        """Set the machine's clock, so many days from what its battery-backed one says."""
        self.words(f'date -s "$(date -d "$(cat /sys/class/rtc/rtc0/date) {days} days" +%F) {clock}"')

    def next_run(self, timer: str) -> str:
        """Hour and minute at which a timer is to elapse."""
        return self.words(f'date -d "$(systemctl show -P NextElapseUSecRealtime {timer}.timer)" +%H%M')[0]

    def began(self, timer: str) -> str:
        """Hour and minute at which a timer's service was started last."""
        return self.words(f'date -d "$(systemctl show -P ExecMainStartTimestamp {timer}.service)" +%H%M')[0]

    def without_spread(self, *timers: str) -> None:
        """From the next start on timers elapse at the first moment they may, until ``with_spread``."""
        exact = "[Timer]\\nRandomizedDelaySec=0\\nAccuracySec=1s\\n"
        for timer in timers:
            place = f"/run/systemd/system/{timer}.timer.d"
            self.words(f"mkdir -p {place}; printf '{exact}' >{place}/50-exact.conf")
        self.words("systemctl daemon-reload")

    def with_spread(self) -> None:
        """Timers are as they come."""
        self.words("rm -r /run/systemd/system/*.timer.d; systemctl daemon-reload")

    def last_run(self, timer: str) -> str:
        """What systemd calls the last run of a timer's service; empty: none yet."""
        return self.server.ask(f"systemctl show -P InvocationID {timer}.service").text.strip()

    def run_after(self, timer: str, before: str) -> str:
        """Wait until the timer has started its service, and that has ended well; what it wrote."""
        done = self.server.ask(
            f"for number in $(seq 900); do set -- $(systemctl show -P InvocationID {timer}.service)"
            f" $(systemctl show -P ActiveState {timer}.service);"
            f' if [ $# = 2 ] && [ "$1" != "{before}" ] && [ "$2" = inactive ]; then'
            f" journalctl -o cat _SYSTEMD_INVOCATION_ID=$1; exit; fi; sleep 1; done;"
            f" systemctl status {timer}.service; exit 1"
        )
        assert done.code == 0, f"{timer} did not run: {done.text}"
        return done.text

    def settled(self, pattern: str = "") -> str:
        """Wait until a boot whose id fits ``pattern`` is up and no patch is under way; its id."""
        answer = self.server.answers(
            "cat /proc/sys/kernel/random/boot_id; systemctl is-system-running --wait;"
            " test -e /var/lib/bedplate-patch/current || echo no patch",
            rf"\A{pattern}[0-9a-f-]+\n(running|degraded)\nno patch\n",
        )
        return answer.split()[0]

    def switched_on(self) -> None:
        """Switch it on again and wait until it is up."""
        self.server.start()
        self.settled()

    def killed_while_changing(self, command: str, work: float) -> None:
        """Start ``command`` and pull the plug once the emulator has worked for ``work`` seconds of processor time since
        packages began to change: a busy machine does not move that point."""
        done = self.server.ask(
            f"(setsid {command} >/var/tmp/said 2>&1 </dev/null &)\n"
            f'timeout 600 bash -c "{CHANGING}" && exit; cat /var/tmp/said; exit 9'
        )
        assert done.code == 0, f"{command} never began to change packages: {done.text}{done.stderr}"
        self.kill_after(work)

    def kill_after(self, work: float) -> None:
        """Pull the plug after ``work`` more seconds of the emulator's processor time."""
        machine = self.server.machine
        assert machine is not None
        begin, end = machine.processor_seconds, time.monotonic() + BOOT_SECONDS
        while machine.processor_seconds - begin < work and time.monotonic() < end:
            machine.wait(0.02)
        assert machine.processor_seconds - begin >= work, f"it did not work for {work} s more: nothing was interrupted"
        self.server.kill()

    def faults(self) -> list[str]:
        """What is wrong with packages and files, configuration apart: nothing, when all is well."""
        done = self.server.ask(
            "rpm -Va --nodeps | grep -Ev '^[^ ]+ +c /|^\\.M.* /var/lib/chrony$'; dnf -q check 2>&1;"
            " rpm -qa --qf '%{NAME}.%{ARCH} is there twice\\n' | sort | uniq -d;"
            " find /usr /etc /var/lib -xdev -regextype posix-extended -regex '.*(;[0-9a-f]{8}|[.]bedplate-patch)';"
            " ls -A /var/lib/bedplate/failed; systemctl --failed --plain --no-legend;"
            " ls /var/lib/dnf/*.pid /var/cache/dnf/*.pid /var/log/*.pid 2>/dev/null; exit 0"
        )
        assert done.code == 0, done.stderr
        return [line for line in done.text.splitlines() if line.strip()]

    def denials(self) -> list[str]:
        """What SELinux denied, over all boots."""
        return self.server.ask(DENIALS).text.splitlines()


@contextmanager
def patched_server(workspace: Workspace, toolbox: Toolbox, place: Path) -> Iterator[Patched]:
    """The server with a web server that runs, and short times to judge by; its repository offers what it has."""
    image = server_image(workspace)
    assert image.lock is not None
    root = make_repository(workspace, "server", ["nginx"], place / "repository", read_lock_file(image.lock))
    depot = Depot(workspace, root, place / "later")
    with booted_server(workspace, toolbox, place, root, DiskForm.COPY) as server:
        patched = Patched(server, depot)
        patched.words(
            f"cat >/etc/bedplate/patch.toml <<'END'\n{CONFIG}END\n"
            "dnf -y install nginx >/var/tmp/said 2>&1 || { cat /var/tmp/said; exit 1; }\n"
            "systemctl -q disable --now bedplate-updates.timer && systemctl enable --now nginx && curl -sf -o /dev/null http://127.0.0.1/"
        )
        yield patched
