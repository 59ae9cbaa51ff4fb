"""What the programs of the system are asked for, and what their words mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bedplate_join.directive import Request
from bedplate_join.door import Completed, Runner, run
from bedplate_join.errors import Away, JoinError
from bedplate_join.files import Found, address_of

# What a member of a domain needs, and to mount its shares.
PACKAGES = (
    "sssd-ad", "libnss-sss", "libpam-sss", "adcli", "realmd", "krb5-user", "krb5-config", "cifs-utils", "keyutils",
)  # fmt: skip
_NAME_REMEDY = "write a hostname: of at most 15 characters in the user data, or run: hostnamectl hostname NAME"
# Words of adcli, realmd and libkrb5, and what they mean to a person: whether it passes by itself, and what to do.
_REFUSALS = (
    (r"Preauthentication failed|Password incorrect|Invalid credentials|password is incorrect",
     "the domain refused the password", "correct the credential, then run: bedplate-join retry"),
    (r"Client .*not found in Kerberos database|Client not found",
     "the domain does not know the user", "correct bedplate.join.user"),
    (r"Clock skew too great",
     "the clocks of this machine and of the domain controller differ by more than Kerberos allows",
     "set the clock (chronyc makestep), then run: bedplate-join retry"),
    (r"revoked|locked out|disabled",
     "the account is disabled or locked", "ask the domain's administrators, then run: bedplate-join retry"),
    (r"nsufficient (access|permissions)|Access denied|Access is denied|access rights",
     "the user may not make the computer's account",
     "give the user the right to join computers in that unit, or name another computer_ou"),
    (r"No such object|Couldn't find.*organizational unit|does not exist",
     "the domain has no such unit", "correct bedplate.join.computer_ou"),
    (r"Couldn't find a computer account|no computer account|Couldn't set password for computer account",
     "the one-time password does not open a computer's account",
     "make the account anew (adcli preset-computer), then run: bedplate-join retry"),
)  # fmt: skip
_VAGUE = re.compile(r"creating computer account|Failed to join the domain")
_AWAY = re.compile(
    r"(?i)Cannot contact any KDC|Can't contact LDAP|Couldn't (connect|resolve)|No such realm found"
    r"|Connection (timed out|refused)|network is unreachable|No route to host"
    r"|couldn't perform discovery|timed out|not done after"
)


class Programs:
    """The system's programs."""

    def __init__(self, runner: Runner = run) -> None:
        self._run = runner

    def missing(self, packages: Sequence[str]) -> list[str]:
        """Those of ``packages`` that are not installed."""
        done = self._run(["rpm", "-q", "--whatprovides", *packages], seconds=120)
        lost = re.findall(r"^no package provides (\S+)$", done.text, re.MULTILINE)
        return [name for name in packages if name in lost]

    def install(self, packages: Sequence[str]) -> None:
        """Install ``packages`` from the system's repositories.

        Raises:
            Away: they cannot be had now.
        """
        done = self._run(["dnf", "-y", "-q", "install", *packages], seconds=1800)
        if done.code != 0:
            raise Away(
                f"the packages a member of a domain needs cannot be installed: {last_words(done)}",
                remedy="look at /etc/dnf/vars/bedplate_url and the network",
            )

    def discover(self, request: Request) -> Found:
        """The domain controller that answers.

        Raises:
            Away: none does.
            JoinError: one of another domain does.
        """
        asked = f"--domain-controller={request.server}" if request.server else request.domain
        done = self._run(["adcli", "info", asked], seconds=60)
        found = dict(re.findall(r"^([a-z-]+) = (.*)$", done.text, re.MULTILINE))
        if done.code != 0 or not found.get("domain-name"):
            where = f" at {request.server}" if request.server else ""
            raise Away(
                f"no domain controller of {request.domain} answers{where}: {last_words(done)}",
                remedy="it is tried again; look at the name, the address, the network and the firewall between",
            )
        domain = found["domain-name"].lower()
        if domain != request.domain:
            raise JoinError(
                f"{request.server or request.domain} is a domain controller of {domain}, not of {request.domain}",
                remedy="correct bedplate.join.domain or bedplate.join.server",
            )
        return Found(found.get("domain-controller", request.server), domain, address_of(request.server))

    def is_member(self, request: Request) -> bool:
        """Whether this machine's account in the domain still opens."""
        return (
            Path("/etc/krb5.keytab").exists()
            and self._run(["adcli", "testjoin", f"--domain={request.domain}"], seconds=60).code == 0
        )

    def enrol(self, request: Request, found: Found, password: str) -> None:
        """Make this machine's account in the domain, its keys, and sssd's configuration.

        Raises:
            Away: the domain controller went away.
            JoinError: the domain refuses.
        """
        # In "install mode" realmd needs no message bus and no polkit, and starts nothing by itself.
        command = ["realm", "join", "--verbose", "--install=/", "--client-software=sssd", "--membership-software=adcli"]
        if request.computer_ou:
            command.append(f"--computer-ou={request.computer_ou}")
        if request.one_time_password:
            command.append(f"--one-time-password={request.one_time_password}")
        else:
            command.append(f"--user={request.user}")
        # A controller that is named is the only one sssd will ask; of a domain it finds them all.
        target = found.name if request.server else request.domain
        done = self._run([*command, target], seconds=300, text=password and f"{password}\n")
        if done.code != 0:
            raise judged(done, f"{request.domain} was not joined")

    def withdraw(self) -> Completed:
        """Forget the domain; the computer's account stays for the domain's administrators to remove."""
        return self._run(["realm", "leave", "--install=/"], seconds=120)

    def qualify(self, domain: str) -> None:
        """Give this machine its full name in the domain, which its Kerberos keys are made for.

        Raises:
            JoinError: it has no name that a domain can take.
        """
        name = self._run(["uname", "-n"], seconds=10).text.strip()
        short, dot, _ = name.partition(".")
        if short in ("", "localhost"):
            raise JoinError("this machine has no name", remedy=_NAME_REMEDY)
        if len(short) > 15:
            raise JoinError(
                f"the name {short!r} has {len(short)} characters; a domain takes 15, and would mix up two machines",
                remedy=_NAME_REMEDY,
            )
        if not dot:
            done = self._run(["hostnamectl", "hostname", f"{short}.{domain}"], seconds=120)
            if done.code != 0:
                raise Away(f"the name was not set: {last_words(done)}", remedy="it is tried again")

    def units(self, *command: str) -> Completed:
        """``systemctl``."""
        return self._run(["systemctl", *command], seconds=180)

    def knows(self, request: Request) -> bool:
        """Whether the domain's names reach this system through sssd."""
        asked = [f"domain users@{request.domain}", *(f"{name}@{request.domain}" for name in request.admins)]
        return self._run(["getent", "-s", "sss", "group", *asked[:1]], seconds=30).code == 0

    def label(self, paths: Sequence[Path]) -> None:
        """Give new files the labels of their places: a service's files have others in /etc.

        Raises:
            JoinError: they cannot be labelled.
        """
        done = self._run(["restorecon", "-F", *map(str, paths)], seconds=60)
        if done.code != 0:
            raise JoinError(f"files were not labelled: {last_words(done)}", remedy="see: journalctl -k -g avc")

    def reload_time(self) -> None:
        """Take a changed list of time servers; the system clock is chrony's business."""
        self._run(["chronyc", "reload", "sources"], seconds=30)


def password_from(credential: str) -> str:
    """The system credential's text.

    Raises:
        JoinError: there is none.
    """
    done = run(["systemd-creds", "--system", "cat", credential], seconds=60)
    if done.code != 0 or not done.text.strip("\n"):
        raise JoinError(
            f"the machine was given no credential {credential!r}: {last_words(done)}",
            remedy="give it to the machine (systemd.system-credentials(7)), then run: bedplate-join retry",
        )
    return done.text.rstrip("\n")


def judged(done: Completed, what: str) -> JoinError:
    """What a failed program's words mean."""
    words = last_words(done)
    for text in (words, done.text):
        for pattern, meaning, remedy in _REFUSALS:
            if re.search(pattern, text):
                return JoinError(f"{what}: {meaning} ({words})", remedy=remedy)
        if _AWAY.search(text):
            return Away(f"{what}: {words}", remedy="it is tried again")
        if "GSSAPI Error" in text:
            break
    return JoinError(f"{what}: {words}", remedy="correct it, then run: bedplate-join retry")


def last_words(done: Completed) -> str:
    """The last line a program wrote that says something."""
    lines = [line.strip() for line in done.text.splitlines() if line.strip(" !*")]
    # adcli marks with an exclamation mark what went wrong; what realmd adds at the end is vaguer.
    marked = [line.strip(" !") for line in lines if line.startswith("! ") and not _VAGUE.search(line)]
    telling = [line for line in lines if "journalctl" not in line and "See:" not in line and not line.startswith("*")]
    return (marked or telling or lines or [f"exit status {done.code}"])[-1][:300]
