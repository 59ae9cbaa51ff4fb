"""The configuration of a joined system, as text: files of our own beside those of the programs, so that leaving removes
them whole."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bedplate_join.directive import Request

RESOLVED = "/etc/systemd/resolved.conf.d/50-bedplate-join.conf"
CHRONY = "/etc/chrony/sources.d/bedplate-join.sources"
KRB5 = "/etc/krb5.conf.d/50-bedplate-join.conf"
REALMD = "/etc/realmd.conf"
KRB5_SSSD = "/etc/krb5.conf.d/60-bedplate-join-sssd.conf"
SSSD = "/etc/sssd/conf.d/50-bedplate-join.conf"
SSHD = "/etc/ssh/sshd_config.d/50-bedplate-join.conf"
SUDOERS = "/etc/sudoers.d/50-bedplate-join"
MODES: Mapping[str, int] = {SSSD: 0o600, SUDOERS: 0o440}
# What is written before the join, and what after it.
BEFORE = (RESOLVED, CHRONY, KRB5, REALMD, SSSD)
AFTER = (KRB5_SSSD, SSHD, SUDOERS)
# Where sssd keeps names, and digests of passwords, for when the domain is away.
REMEMBERED = ("/var/lib/sss/mc", "/var/lib/sss/db")


@dataclass(frozen=True, slots=True)
class Found:
    """A domain controller that answered: its ``name``, and its ``address`` when it was asked for by address."""

    name: str
    domain: str
    address: str = ""


def address_of(server: str) -> str:
    """``server`` when it is an address, else nothing."""
    try:
        return str(ipaddress.ip_address(server))
    except ValueError:
        return ""


def before(request: Request, found: Found, shell: str) -> dict[str, str]:
    """What joining needs: names, time, Kerberos, realmd's manners; and who may log in, before sssd starts the first
    time."""
    files = {
        CHRONY: f"server {found.address or found.name} iburst\n",
        KRB5: (
            "# Written by bedplate-join.\n"
            f"[libdefaults]\n    default_realm = {request.realm}\n    udp_preference_limit = 0\n"
            f"[domain_realm]\n    .{request.domain} = {request.realm}\n    {request.domain} = {request.realm}\n"
        ),
        REALMD: (
            "# Written by bedplate-join. See realmd.conf(5).\n"
            "[service]\nautomatic-install = no\n"
            "[users]\ndefault-home = /home/%U@%D\n"
            "[commands]\n"
            "sssd-enable-service = /usr/bin/systemctl enable sssd.service\n"
            "sssd-disable-service = /usr/bin/systemctl disable sssd.service\n"
            "sssd-restart-service = /usr/bin/systemctl restart sssd.service\n"
            "sssd-stop-service = /usr/bin/systemctl stop sssd.service\n"
            "sssd-enable-logins =\nsssd-disable-logins =\n"
        ),
        SSSD: _sssd(request, shell),
    }
    if found.address:
        files[RESOLVED] = (
            "# Written by bedplate-join: the domain's names are the domain controller's to tell.\n"
            f"[Resolve]\nDNS={found.address}\nDomains=~{request.domain}\n"
        )
    return files


def after(request: Request) -> dict[str, str]:
    """What logging in needs."""
    files = {
        # sssd says there which account a Kerberos name logs in to. The directory comes with sssd.
        KRB5_SSSD: "# Written by bedplate-join.\nincludedir /var/lib/sss/pubconf/krb5.include.d/\n",
        SSHD: (
            "# Written by bedplate-join: a Kerberos ticket is as good as a key; passwords stay off.\n"
            "GSSAPIAuthentication yes\nGSSAPICleanupCredentials yes\n"
            "AuthenticationMethods publickey gssapi-with-mic\n"
        ),
    }
    if request.admins:
        rules = [f"%{_sudo_name(group, request.domain)} ALL=(ALL:ALL) ALL" for group in request.admins]
        files[SUDOERS] = "# Written by bedplate-join.\n" + "\n".join(rules) + "\n"
    return files


def _sssd(request: Request, shell: str) -> str:
    lines = ["# Written by bedplate-join.", f"[domain/{request.domain}]"]
    allowed = [*request.admins, *(request.login or ())]
    if request.login is None:
        lines += ["access_provider = ad", "ad_gpo_access_control = permissive"]
    elif allowed:
        lines += ["access_provider = simple", f"simple_allow_groups = {', '.join(allowed)}"]
    else:
        lines += ["access_provider = deny"]
    lines += [
        # Updating names in DNS needs nsupdate, which is not a part of this system.
        "dyndns_update = false",
        # Rules for sudo are this machine's: the directory's would be searched for in all of the tree.
        "sudo_provider = none",
        "cache_credentials = true",
        "krb5_store_password_if_offline = true",
        "krb5_ccname_template = FILE:/tmp/krb5cc_%U",
        f"default_shell = {shell}",
        "fallback_homedir = /home/%u@%d",
    ]
    return "\n".join(lines) + "\n"


def _sudo_name(group: str, domain: str) -> str:
    """As sudoers(5) writes a group's name: special characters with a backslash."""
    return re.sub(r"([^A-Za-z0-9_.@-])", r"\\\1", f"{group}@{domain}")
