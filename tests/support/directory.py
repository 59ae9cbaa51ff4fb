"""A domain controller for tests: the server image with Samba in it, and what makes a domain of it."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tomli_w

from bedplate.flows.build import build_track
from bedplate.flows.definition import read_definition
from bedplate.flows.images import FoundImage, find_image
from bedplate.flows.lock import make_track_lock
from bedplate.flows.locks import Relock, committed_path, write_lock
from bedplate.flows.workspace import Workspace

PACKAGES = (
    "samba", "samba-ad-dc", "samba-ad-provision", "winbind", "krb5-user", "krb5-config",
    # samba-tool's Python modules want old digests.
    "openssl-provider-legacy",
)  # fmt: skip

# One process for all of samba-tool's commands: what it loads takes seconds in an emulator. The oldest schema and level
# make the domain in half of the time; keys for TLS, which nobody here asks for, are not made.
PROVISION = r"""
set -e
setenforce 0  # a peer for the test; what is tested is the member
hostnamectl hostname dc.example.test
printf '10.9.0.1 dc.example.test dc\n10.9.0.2 member.example.test member\n' >>/etc/hosts
rm -f /etc/samba/smb.conf
python3 - <<'END'
import pathlib, re, sys

# Words for dialogs in 25 languages are a third of the work: English is enough.
for path in pathlib.Path("/usr/share/samba/setup/display-specifiers").glob("*.txt"):
    entries = re.split(r"\n\s*\n", path.read_text("latin-1"))
    other = re.compile(r"^dn: .*CN=(?!409,)[0-9A-F]+,CN=DisplaySpecifiers", re.MULTILINE)
    path.write_text("\n\n".join(one for one in entries if not other.search(one)), "latin-1")

sys.argv = ["samba-tool"]
from samba.netcmd.main import samba_tool

def tool(*arguments):
    if samba_tool(*arguments):
        sys.exit("samba-tool failed: " + " ".join(arguments))

tool("domain", "provision", "--realm=EXAMPLE.TEST", "--domain=EXAMPLE", "--server-role=dc", "--host-name=dc",
     "--host-ip=10.9.0.1", "--dns-backend=SAMBA_INTERNAL", "--adminpass=Passw0rd-admin", "--function-level=2008_R2",
     "--base-schema=2008_R2_old", "--adprep-level=SKIP", "--option=interfaces=10.9.0.1 lo",
     "--option=bind interfaces only=yes")
tool("spn", "add", "ldap/dc.example.test", "DC$")
tool("spn", "add", "cifs/dc.example.test", "DC$")
tool("ou", "add", "OU=Servers")
tool("group", "add", "Server Admins")
for name in ("alice", "bob", "mallory", "joiner"):
    tool("user", "create", name, "Passw0rd-" + name)
tool("group", "addmembers", "Server Admins", "alice,bob")
tool("group", "addmembers", "Account Operators", "joiner")
END
mkdir -p /srv/share
chmod 1777 /srv/share
sed -i '/^\[global\]/r /dev/stdin' /etc/samba/smb.conf <<'END'
	tls enabled = no
	prefork children = 1
	server services = s3fs, rpc, ldap, cldap, kdc, dns, winbindd
	dns update command = /bin/true
	spn update command = /bin/true
END
printf '[share]\npath = /srv/share\nread only = no\n' >>/etc/samba/smb.conf
printf 'add rule inet bedplate input ip saddr 10.9.0.0/24 accept\n' >/etc/nftables.d/domain.nft
systemctl restart nftables
cat >/etc/krb5.conf.d/test.conf <<'END'
[libdefaults]
default_realm = EXAMPLE.TEST
[realms]
EXAMPLE.TEST = {
kdc = 10.9.0.1
}
END
"""


def track_with(workspace: Workspace, track: str, packages: Sequence[str], place: Path) -> FoundImage:
    """The image of ``track`` with more ``packages`` in it, from a copy of the definition below ``place``."""
    shutil.copytree(workspace.distro, place / "distro")
    file = place / "distro/tracks" / f"{track}.toml"
    values = tomllib.loads(file.read_text())
    values["packages"] += packages
    values["limits"] |= {"packages": 1000, "root_mib": 8192}
    file.write_text(tomli_w.dumps(values))
    other = replace(workspace, distro=place / "distro", output=place / "out")
    definition = read_definition(other)
    lock, _ = make_track_lock(other, definition, definition.track(track))
    write_lock(committed_path(other, track), lock)
    outcome = build_track(other, track, Relock.NEVER)
    return find_image(other, str(outcome.directory))
