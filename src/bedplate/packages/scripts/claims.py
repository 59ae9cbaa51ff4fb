"""What a piece of a script is for: the known kinds, what does the work instead, and what that must be held against."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A known kind of script line. The value is what the ledger shows."""

    STRUCTURE = "structure"
    SHELL = "shell"
    QUERY = "query"
    MESSAGE = "message"
    NEVER = "never-on-first-install"
    UNITS = "units"
    SERVICES = "services"
    SYSV = "sysv"
    USERS = "users"
    TMPFILES = "tmpfiles"
    ALTERNATIVES = "alternatives"
    MODES = "modes"
    CONFFILES = "conffile-moves"
    OWNED_FILE = "owned-file"
    DEBCONF = "debconf"
    LDCONFIG = "ldconfig"
    DEPMOD = "depmod"
    INITRD = "initrd"
    KERNEL = "kernel"
    LOADER = "boot-loader"
    HWDB = "hwdb"
    CATALOG = "catalog"
    CA_BUNDLE = "ca-bundle"
    MACHINE_ID = "machine-id"
    DIVERSIONS = "usr-merge-diversions"
    TRIGGERS = "triggers"
    BYTE_CODE = "byte-code"
    DOCUMENTATION = "documentation"
    RUN_TIME = "run-time-files"
    SECURITY_CONTEXT = "security-context"
    PAYLOAD = "payload"
    MODULES = "modules"
    APPARMOR = "apparmor"
    XML_CATALOG = "xml-catalog"


REPLACED_BY: dict[Kind, str] = {
    Kind.STRUCTURE: "keywords and braces of the script itself",
    Kind.SHELL: "changes the shell that runs the script, nothing else",
    Kind.QUERY: "only looks",
    Kind.MESSAGE: "only speaks to whoever installs",
    Kind.NEVER: "never runs at a first installation into an image (upgrade, removal, error, live system)",
    Kind.UNITS: "stage presets: units are enabled by the distribution's preset list",
    Kind.SERVICES: "nothing runs while composing; units start at boot",
    Kind.SYSV: "units: the image starts no init scripts",
    Kind.USERS: "stage users: frozen ids of distro/ids.toml",
    Kind.TMPFILES: "systemd-tmpfiles at boot reads the same files, where a track keeps them",
    Kind.ALTERNATIVES: "stage alternatives: links declared in distro/packages",
    Kind.MODES: "owners and modes declared in distro/packages",
    Kind.CONFFILES: "moves configuration files of older versions; an image has none",
    Kind.OWNED_FILE: "a file owned by the distribution, in distro/files",
    Kind.DEBCONF: "no question is asked; answers have no effect but through other lines of the script",
    Kind.LDCONFIG: "stage ldconfig",
    Kind.DEPMOD: "stage depmod",
    Kind.INITRD: "Bedplate composes the initrd itself",
    Kind.KERNEL: "the kernel goes into the UKI; no links and hooks in /boot",
    Kind.LOADER: "the disk stage lays systemd-boot into the ESP",
    Kind.HWDB: "stage hwdb",
    Kind.CATALOG: "stage catalog",
    Kind.CA_BUNDLE: "stage ca-bundle",
    Kind.MACHINE_ID: "an empty /etc/machine-id, filled at first boot",
    Kind.DIVERSIONS: "paths are canonical below /usr from import on",
    Kind.TRIGGERS: "the interested packages' scripts are accounted for themselves",
    Kind.BYTE_CODE: "byte code is made on use or not at all",
    Kind.DOCUMENTATION: "indexes of documentation are not kept",
    Kind.RUN_TIME: "/run is empty at every boot",
    Kind.SECURITY_CONTEXT: "labels are given when the image is written",
    Kind.PAYLOAD: "files, links and directories declared in distro/packages: they are part of our package",
    Kind.MODULES: "links declared in distro/packages that enable the module",
    Kind.APPARMOR: "AppArmor is not used: SELinux is",
    Kind.XML_CATALOG: "catalogues of XML and SGML schemas are not kept; nothing here reads schemas by public name",
}


class NeedKind(StrEnum):
    """What a claim must be held against in the definition."""

    ALTERNATIVE = "alternative"
    USER = "user"
    GROUP = "group"
    MEMBER = "member"
    MODE = "mode"
    OWNED = "owned"
    CAPABILITY = "capability"
    LINK = "link"


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """One fact a claim is true only with: ``key`` is link and target, a user, a group, group and user, or a path."""

    kind: NeedKind
    key: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(self.key)}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A line is of a known kind, provided that the definition holds all it needs."""

    kind: Kind
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A line is of no known kind; why."""

    reason: str


Judgement = Claim | Unknown
