"""Rules for the programs that maintainer scripts call to change the machine, each with what does it instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from bedplate.packages.scripts.claims import Claim, Kind, Need, NeedKind
from bedplate.packages.scripts.kinds import Call, canonical, is_run_time, rule
from bedplate.packages.scripts.state import Field

_QUERY = Claim(Kind.QUERY)


def split_options(
    call: Call, *, flags: Collection[str], valued: Collection[str] = ()
) -> tuple[dict[str, list[str]], list[str]] | None:
    """Options (with their values, flags with "") and operands; None when anything is unknown."""
    options: dict[str, list[str]] = {}
    operands: list[str] = []
    if not call.exact:
        return None
    fields = iter(call.operands)
    for field in fields:
        if field is None:
            return None
        name, equals, value = field.partition("=")
        if field in flags:
            options.setdefault(field, []).append("")
        elif field in valued:
            following = next(fields, None)
            if following is None:
                return None
            options.setdefault(field, []).append(following)
        elif equals and name in valued:
            options.setdefault(name, []).append(value)
        elif field.startswith("-"):
            return None
        else:
            operands.append(field)
    return options, operands


def _first_verb(call: Call, flags: Collection[str]) -> str | None:
    """The first operand behind known flags; None when something else comes before it or it is not known."""
    for field in call.operands:
        if field is None:
            return None
        if field not in flags:
            return field
    return None


# -- services and units --------------------------------------------------------------------------------------------


@rule("deb-systemd-helper")
def _deb_systemd_helper(call: Call) -> Claim | None:
    verb = _first_verb(call, ("--quiet", "--user", "--system"))
    verbs = (
        "unmask",
        "enable",
        "disable",
        "mask",
        "update-state",
        "was-enabled",
        "debian-installed",
        "purge",
        "reenable",
    )
    return Claim(Kind.UNITS) if verb in verbs and _safe_words(call) else None


@rule("deb-systemd-invoke", "invoke-rc.d", "service")
def _service(call: Call) -> Claim | None:
    return Claim(Kind.SERVICES)


@rule("systemctl")
def _systemctl(call: Call) -> Claim | None:
    verb = _first_verb(call, ("--system", "--user", "--global", "--quiet", "-q", "--no-reload", "--now", "--no-block"))
    if verb in ("enable", "disable", "preset", "preset-all", "mask", "unmask", "reenable"):
        return Claim(Kind.UNITS) if _safe_words(call) else None
    if verb in (
        "is-active",
        "is-enabled",
        "is-failed",
        "is-system-running",
        "show",
        "status",
        "--version",
        "list-units",
    ):
        return _QUERY
    running = (
        "start stop restart try-restart reload reload-or-restart reload-or-try-restart try-reload-or-restart "
        "daemon-reload daemon-reexec kill condrestart set-property reset-failed"
    )
    return Claim(Kind.SERVICES) if verb in running.split() else None


@rule("systemd-update-helper")
def _systemd_update_helper(call: Call) -> Claim | None:
    verb = call.operands[0] if call.operands else None
    if verb in ("install-system-units", "install-user-units", "remove-system-units", "remove-user-units"):
        return Claim(Kind.UNITS)
    running = """
        mark-restart-system-units mark-restart-user-units system-reload-restart system-reload system-restart
        user-reload-restart user-reload user-restart
    """
    return Claim(Kind.SERVICES) if verb in running.split() else None


@rule("update-rc.d", "chkconfig")
def _init_links(call: Call) -> Claim:
    return Claim(Kind.SYSV)


@rule("runit-helper")
def _runit_helper(call: Call) -> Claim | None:
    """Links runit service directories; an image without runit has no use for them."""
    return Claim(Kind.SYSV) if call.fields[0] == "/usr/lib/runit-helper/runit-helper" else None


# -- users ---------------------------------------------------------------------------------------------------------

_USERADD_VALUES: tuple[str, ...] = (
    *("-u", "-g", "-G", "-d", "-s", "-c", "-b", "-k", "-K", "--uid", "--gid", "--groups", "--home-dir", "--home"),
    *("--shell", "--comment", "--ingroup", "--gecos", "--conf"),
)
_USERADD_FLAGS: tuple[str, ...] = (
    *("-r", "-M", "-N", "-U", "-o", "-f", "-l", "--system", "--group", "--quiet", "--no-create-home"),
    *("--disabled-login", "--disabled-password", "--force-badname", "--allow-bad-names", "--no-log-init"),
    *("--allow-all-names", "--user-group", "--no-user-group"),
)


@rule("adduser", "useradd")
def _add_user(call: Call) -> Claim | None:
    parsed = split_options(call, flags=_USERADD_FLAGS, valued=_USERADD_VALUES)
    if parsed is None:
        return None
    options, operands = parsed
    if len(operands) == 2 and not options.keys() - {"--quiet"} and call.fields[0] == "adduser":
        return Claim(Kind.USERS, (Need(NeedKind.MEMBER, (operands[1], operands[0])),))
    if len(operands) != 1:
        return None
    needs = [Need(NeedKind.USER, (operands[0],))]
    for option in ("-g", "--gid", "--ingroup"):
        needs += [Need(NeedKind.GROUP, (value,)) for value in options.get(option, ()) if not value.isdigit()]
    for option in ("-G", "--groups"):
        for value in options.get(option, ()):
            needs += [Need(NeedKind.MEMBER, (group, operands[0])) for group in value.split(",") if group]
    return Claim(Kind.USERS, tuple(needs))


@rule("addgroup", "groupadd")
def _add_group(call: Call) -> Claim | None:
    flags = ("-r", "-f", "-o", "--system", "--quiet", "--force-badname", "--allow-bad-names", "--force")
    parsed = split_options(call, flags=flags, valued=("-g", "--gid"))
    if parsed is None or len(parsed[1]) != 1:
        return None
    return Claim(Kind.USERS, (Need(NeedKind.GROUP, (parsed[1][0],)),))


@rule("usermod")
def _usermod(call: Call) -> Claim | None:
    parsed = split_options(call, flags=("-a", "--append"), valued=("-G", "-aG", "--groups"))
    if parsed is None or len(parsed[1]) != 1:
        return None
    options, (user,) = parsed
    groups = [group for values in options.values() for value in values for group in value.split(",") if group]
    return Claim(Kind.USERS, tuple(Need(NeedKind.MEMBER, (group, user)) for group in groups)) if groups else None


@rule("systemd-sysusers")
def _sysusers(call: Call) -> Claim | None:
    return Claim(Kind.USERS) if _safe_words(call) else None


@rule("systemd-tmpfiles")
def _tmpfiles(call: Call) -> Claim | None:
    return Claim(Kind.TMPFILES) if "--create" in call.operands and _safe_words(call) else None


# -- owners and modes ----------------------------------------------------------------------------------------------


_QUIETLY = ("-h", "-f", "-v", "--quiet", "--no-dereference")


def _mode_needs(paths: Iterable[Field]) -> Claim | None:
    paths = tuple(paths)
    if not paths or any(path is None or not path.startswith("/") for path in paths):
        return None
    known = [path for path in paths if path is not None]
    if all(is_run_time(path) for path in known):
        return Claim(Kind.RUN_TIME)
    return Claim(Kind.MODES, tuple(Need(NeedKind.MODE, (canonical(path),)) for path in known))


@rule("chmod", "chown", "chgrp")
def _change_mode(call: Call) -> Claim | None:
    operands = [operand for operand in call.operands if operand not in _QUIETLY]
    if not call.exact or len(operands) < 2 or operands[0] is None:
        return None
    if operands[0].startswith("-") and not re.match(r"-[rwxXst]+\Z", operands[0]):
        return None
    return _mode_needs(operands[1:])


@rule("dpkg-statoverride")
def _statoverride(call: Call) -> Claim | None:
    if "--list" in call.operands:
        return _QUERY
    parsed = split_options(call, flags=("--update", "--add", "--quiet", "--force-statoverride-add"))
    if parsed is None or "--add" not in parsed[0] or len(parsed[1]) != 4:
        return None
    return _mode_needs(parsed[1][3:])


@rule("restorecon", "chcon", "setsebool", "fixfiles")
def _security_context(call: Call) -> Claim | None:
    return Claim(Kind.SECURITY_CONTEXT) if call.fields[0] == "restorecon" else None


# -- alternatives, diversions, configuration files ------------------------------------------------------------------


@rule("update-alternatives", "alternatives")
def _alternatives(call: Call) -> Claim | None:
    if not call.exact or None in call.operands:
        return None
    fields = [field for field in call.operands if field is not None and field not in ("--quiet", "--force")]
    if fields[:1] == ["--remove"] or fields[:1] == ["--remove-all"]:
        return Claim(Kind.ALTERNATIVES)
    if fields[:1] in (["--query"], ["--display"], ["--list"]):
        return _QUERY
    if fields[:1] != ["--install"] or len(fields) < 5 or not fields[4].isdigit():
        return None
    links = [(fields[1], fields[3])]
    rest = fields[5:]
    while rest:
        if rest[0] not in ("--slave", "--follower") or len(rest) < 4:
            return None
        links.append((rest[1], rest[3]))
        rest = rest[4:]
    # A manual page's other name is no part of what an image must have.
    wanted = [(canonical(link), canonical(target)) for link, target in links if "/share/man/" not in link]
    return Claim(Kind.ALTERNATIVES, tuple(Need(NeedKind.ALTERNATIVE, pair) for pair in wanted))


@rule("dpkg-divert")
def _divert(call: Call) -> Claim | None:
    if call.operands[:1] in (("--list",), ("--truename",), ("--listpackage",)):
        return _QUERY
    flags = ("--quiet", "--add", "--remove", "--no-rename", "--local")
    parsed = split_options(call, flags=flags, valued=("--package", "--divert"))
    if parsed is None or "--no-rename" not in parsed[0] or len(parsed[1]) != 1:
        return None
    diverted = parsed[0].get("--divert", [""])[0]
    return Claim(Kind.DIVERSIONS) if diverted.endswith(".usr-is-merged") else None


@rule("dpkg-maintscript-helper")
def _maintscript_helper(call: Call) -> Claim | None:
    """Acts on upgrades only, and on what older versions left behind (dpkg-maintscript-helper(1))."""
    verbs = ("rm_conffile", "mv_conffile", "symlink_to_dir", "dir_to_symlink")
    return Claim(Kind.CONFFILES) if call.operands and call.operands[0] in verbs else None


@rule("ucf")
def _ucf(call: Call) -> Claim | None:
    parsed = split_options(call, flags=("--three-way", "--debconf-ok"), valued=("--sum-file", "--src-dir"))
    if parsed is None or len(parsed[1]) != 2:
        return None
    return Claim(Kind.OWNED_FILE, (Need(NeedKind.OWNED, (canonical(parsed[1][1]),)),))


@rule("ucfr")
def _ucfr(call: Call) -> Claim:
    """Writes ucf's own registry below /var, which a package manager without ucf never reads."""
    return Claim(Kind.CONFFILES)


@rule("update-shells")
def _update_shells(call: Call) -> Claim:
    return Claim(Kind.OWNED_FILE, (Need(NeedKind.OWNED, ("/etc/shells",)),))


@rule("pam-auth-update")
def _pam_auth_update(call: Call) -> Claim:
    names = ("account", "auth", "password", "session", "session-noninteractive")
    return Claim(Kind.OWNED_FILE, tuple(Need(NeedKind.OWNED, (f"/etc/pam.d/common-{name}",)) for name in names))


# -- caches and the boot chain -------------------------------------------------------------------------------------


@rule("ldconfig")
def _ldconfig(call: Call) -> Claim | None:
    plain = call.operands in ((), ("-r", "/"), ("--verbose", "-r", "/"))
    return Claim(Kind.LDCONFIG) if plain and call.exact else None


@rule("depmod")
def _depmod(call: Call) -> Claim:
    return Claim(Kind.DEPMOD)


@rule("update-initramfs", "dracut")
def _initrd(call: Call) -> Claim:
    return Claim(Kind.INITRD)


@rule("linux-update-symlinks", "linux-run-hooks", "kernel-install", "update-grub", "linux-check-removal")
def _kernel(call: Call) -> Claim:
    return Claim(Kind.KERNEL)


@rule("bootctl")
def _bootctl(call: Call) -> Claim | None:
    verb = _first_verb(call, ("--quiet", "--graceful"))
    if verb in ("--print-esp-path", "-p", "--print-boot-path", "-x", "is-installed", "status"):
        return _QUERY
    return Claim(Kind.LOADER) if verb in ("install", "update", "remove") else None


@rule("systemd-hwdb")
def _hwdb(call: Call) -> Claim | None:
    return Claim(Kind.HWDB) if _first_verb(call, ("--usr", "--strict")) == "update" else None


@rule("udevadm")
def _udevadm(call: Call) -> Claim | None:
    if call.operands[:2] == ("hwdb", "--update"):
        return Claim(Kind.HWDB)
    if call.operands[:1] in (("control",), ("trigger",), ("settle",)):
        return Claim(Kind.SERVICES)
    return _QUERY if call.operands in (("--version",), ("info",)) else None


@rule("journalctl")
def _journalctl(call: Call) -> Claim | None:
    return Claim(Kind.CATALOG) if call.operands == ("--update-catalog",) and call.exact else None


@rule("update-ca-certificates", "update-ca-trust")
def _ca_bundle(call: Call) -> Claim:
    return Claim(Kind.CA_BUNDLE)


@rule("systemd-machine-id-setup")
def _machine_id(call: Call) -> Claim:
    return Claim(Kind.MACHINE_ID)


@rule("systemd-sysctl", "sysctl", "systemd-binfmt", "modprobe", "nscd")
def _running_kernel(call: Call) -> Claim | None:
    """Settings of a running system; at boot the same files are read."""
    return None if "-w" in call.operands else Claim(Kind.SERVICES)


@rule("dpkg-trigger")
def _dpkg_trigger(call: Call) -> Claim:
    return Claim(Kind.TRIGGERS)


@rule("py3compile", "py3clean", "pycompile", "pyclean", "pypy3compile", "pypy3clean")
def _byte_code(call: Call) -> Claim:
    return Claim(Kind.BYTE_CODE)


@rule("install-info", "mandb")
def _documentation(call: Call) -> Claim:
    return Claim(Kind.DOCUMENTATION)


# Tells a kernel package's own postinst that its preinst ran just before. The directory is in the package.
_KERNEL_MARKER = re.compile(r"/(usr/)?lib/modules/[^/]+(/\.fresh-install)?\Z")


def made(paths: list[str]) -> Claim | None:
    """The claim that all of ``paths`` are held by the definition; below ``/run`` nothing needs to be."""
    if not paths or any(not path.startswith("/") or ".." in path.split("/") for path in paths):
        return None
    if all(is_run_time(path) for path in paths):
        return Claim(Kind.RUN_TIME)
    lasting = [canonical(path.rstrip("/")) for path in paths if not is_run_time(path)]
    return Claim(Kind.PAYLOAD, tuple(Need(NeedKind.OWNED, (path,)) for path in lasting))


@rule("touch", "mkdir", "rm", "rmdir")
def _markers(call: Call) -> Claim | None:
    parsed = split_options(call, flags=("-p", "-f", "-r", "-rf", "-d"), valued=("-m", "--mode"))
    if parsed is None or not parsed[1]:
        return None
    options, paths = parsed
    if all(is_run_time(path) for path in paths):
        return Claim(Kind.RUN_TIME)
    if call.fields[0] in ("mkdir", "touch") and not any(_KERNEL_MARKER.match(path) for path in paths):
        return made(paths)
    harmless = call.fields[0] != "rm" or not options.keys() - {"-f"}
    return Claim(Kind.KERNEL) if harmless and all(_is_kernel_marker(call.fields[0], path) for path in paths) else None


def _is_kernel_marker(command: Field, path: str) -> bool:
    found = _KERNEL_MARKER.match(path)
    return found is not None and bool(found.group(2)) == (command != "mkdir") and ".." not in path.split("/")


def _safe_words(call: Call) -> bool:
    """Whether the command surely works on this system's own root and files by name, not on paths of its own."""
    return all(field is None or not field.startswith(("--root", "--image", "/")) for field in call.operands)
