"""Known kinds of commands, and the facts they need."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from bedplate.model.definition.facts import Alternative, Ids, Mode, PackageFacts, User
from bedplate.model.package import Script
from bedplate.packages.scripts.claims import Kind
from bedplate.packages.scripts.ledger import PackageScripts, ScriptAccount, account

IDS = Ids(
    users={"root": User(uid=0), "_demo": User(uid=910), "other": User(uid=911, group="shared")},
    groups={"shared": 960, "readers": 961},
    members={"readers": ["_demo"]},
)
FACTS = {
    "demo": PackageFacts(
        name="demo",
        modes={"/usr/bin/demo": Mode(mode="2755", group="readers")},
        alternatives=[Alternative(link="/usr/bin/pager", target="/usr/bin/more")],
    )
}


def one(body: str, owned: Collection[str] = (), kind: str = "postinst", interpreter: str = "/bin/sh") -> ScriptAccount:
    text = body if kind.startswith("%") else f"#!{interpreter}\nset -e\n{body}\n"
    (entry,) = account([PackageScripts("demo", (Script(kind, interpreter, text),))], FACTS, IDS, owned).accounts
    return entry


def kinds(entry: ScriptAccount) -> set[Kind]:
    return {piece.kind for piece in entry.pieces} - {Kind.SHELL, Kind.STRUCTURE, Kind.NEVER, Kind.QUERY}


PAGER = """
update-alternatives --install /usr/bin/pager pager /bin/more 50 \\
	--slave /usr/share/man/man1/p.1.gz p.1.gz /usr/share/man/man1/m.1.gz
"""
POST_UNITS = """
if [ $1 -eq 1 ] && [ -x "/usr/lib/systemd/systemd-update-helper" ]; then
    # at first installation
    /usr/lib/systemd/systemd-update-helper install-system-units demo.service || :
fi
"""
PRE_SYSUSERS = """
systemd-sysusers --replace=/usr/lib/sysusers.d/demo.conf - <<EOF >/dev/null 2>&1 || :
u _demo - "Demo" / -
EOF
"""
PRE_USERADD = """
getent group shared >/dev/null || groupadd -f -g 960 -r shared
getent passwd other >/dev/null || useradd -r -u 911 -g shared -d / -s /sbin/nologin -c Demo other
exit 0
"""
UNITS = """
if [ "$1" = "configure" ] || [ "$1" = "abort-upgrade" ] ; then
	deb-systemd-helper unmask 'demo.service' >/dev/null || true
	if deb-systemd-helper --quiet was-enabled 'demo.service'; then
		deb-systemd-helper enable 'demo.service' >/dev/null || true
	else
		deb-systemd-helper update-state 'demo.service' >/dev/null || true
	fi
fi
"""
RESTART = """
if [ "$1" = "configure" ]; then
	if [ -d /run/systemd/system ]; then
		systemctl --system daemon-reload >/dev/null || true
		if [ -n "$2" ]; then _action=restart; else _action=start; fi
		deb-systemd-invoke $_action 'demo.service' >/dev/null || true
	fi
fi
"""


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (UNITS, Kind.UNITS),
        ('systemctl ${DPKG_ROOT:+--root="$DPKG_ROOT"} enable demo.service || true', Kind.UNITS),
        ("systemctl restart demo.service", Kind.SERVICES),
        ("deb-systemd-invoke start demo.service >/dev/null || true", Kind.SERVICES),
        ("update-rc.d demo defaults >/dev/null", Kind.SYSV),
        ('systemd-sysusers ${DPKG_ROOT:+--root="$DPKG_ROOT"} demo.conf', Kind.USERS),
        ("systemd-tmpfiles --create demo.conf || true", Kind.TMPFILES),
        ('dpkg-maintscript-helper rm_conffile /etc/demo 1.0\\~ -- "$@"', Kind.CONFFILES),
        ("ldconfig", Kind.LDCONFIG),
        ("depmod 6.12", Kind.DEPMOD),
        ("update-initramfs -u", Kind.INITRD),
        ("systemd-hwdb --usr update || true", Kind.HWDB),
        ("journalctl --update-catalog || true", Kind.CATALOG),
        ("update-ca-certificates --fresh", Kind.CA_BUNDLE),
        ("systemd-machine-id-setup", Kind.MACHINE_ID),
        ("if command -v py3compile >/dev/null 2>&1; then\n\tpy3compile -p demo\nfi", Kind.BYTE_CODE),
        ("dpkg-trigger --no-await demo", Kind.TRIGGERS),
        ("touch /run/demo.stamp", Kind.RUN_TIME),
        (". /usr/share/debconf/confmodule\ndb_get demo/x || true\ndb_stop", Kind.DEBCONF),
        ("adduser --system --group --quiet --home /var/lib/demo --no-create-home _demo", Kind.USERS),
        ("getent group readers >/dev/null || addgroup --system readers", Kind.USERS),
        ("useradd -r -g shared -d /nonexistent other", Kind.USERS),
        ("adduser _demo readers", Kind.USERS),
        ("usermod -a -G readers _demo", Kind.USERS),
        ("chgrp readers /usr/bin/demo\nchmod 2755 /usr/bin/demo", Kind.MODES),
        ("dpkg-statoverride --update --add root readers 2755 /usr/bin/demo", Kind.MODES),
        (
            PAGER,
            Kind.ALTERNATIVES,
        ),
        ("dpkg-divert --package demo --add --no-rename --divert /lib/x.usr-is-merged /lib/x", Kind.DIVERSIONS),
        (
            'for d in a b; do\n\tdpkg-divert --quiet --remove --no-rename --divert "/.$d.usr-is-merged" "/$d"\ndone',
            Kind.DIVERSIONS,
        ),
        ("mkdir -p /lib/modules/6.12\ntouch /lib/modules/6.12/.fresh-install", Kind.KERNEL),
    ],
)
def test_known_kind(body: str, kind: Kind) -> None:
    entry = one(body)
    assert entry.uncovered == ()
    assert kind in kinds(entry)


@pytest.mark.parametrize(
    "body",
    [
        "adduser --system nobody-knows",
        "adduser other readers",
        "addgroup --system nobody-knows",
        "useradd -r -g nobody-knows _demo",
        "adduser --system --unknown-option _demo",
        'adduser --system "$NAME"',
        "chmod 4755 /usr/bin/other",
        "chmod -R 755 /usr/bin/demo",
        'chmod 4755 "$FILE"',
        "dpkg-statoverride --update --add root root 4755 /usr/bin/other",
        "update-alternatives --install /usr/bin/editor editor /usr/bin/demo 50",
        "update-alternatives --install /usr/bin/pager pager /bin/more 50 --slave /usr/bin/less less /bin/more",
        "dpkg-divert --package demo --add --rename --divert /usr/bin/x.real /usr/bin/x",
        "ucf --three-way /usr/share/demo/conf /etc/demo.conf",
        "db_get demo/x",
        "rm -rf /run/../etc",
        "rm -rf /lib/modules/6.12",
        "systemctl --root=/elsewhere enable demo.service",
        "systemctl enable /elsewhere/demo.service",
        "sed -i s/a/b/ /etc/demo",
        "sed -n 's/a/b/w /etc/demo' x",
        "sort -o /etc/demo",
        "printf -v PATH /elsewhere",
        "set -f",
        "ldconfig -r /elsewhere",
        "setcap cap_net_admin=ep /usr/bin/demo",
    ],
)
def test_use_that_is_not_known_or_not_declared_is_a_gap(body: str) -> None:
    assert one(body).uncovered


def test_file_of_the_distribution_replaces_a_generated_one() -> None:
    body = "ucf --three-way /usr/share/demo/conf /etc/demo.conf\nchmod 600 /etc/demo.conf"
    assert one(body, owned={"/etc/demo.conf"}).uncovered == ()


def test_snippet_that_starts_services_does_not_run_while_composing() -> None:
    entry = one(UNITS + RESTART)
    assert entry.uncovered == ()
    assert kinds(entry) == {Kind.UNITS}


@pytest.mark.parametrize(
    ("kind", "interpreter", "text"),
    [
        ("%post", "/sbin/ldconfig", ""),
        (
            "%post",
            "/bin/sh",
            POST_UNITS,
        ),
        (
            "%post",
            "/bin/sh",
            "systemctl --no-reload preset demo.service &>/dev/null || :\n",
        ),
        (
            "%pre",
            "/bin/sh",
            PRE_SYSUSERS,
        ),
        (
            "%pre",
            "/bin/sh",
            PRE_USERADD,
        ),
        ("%post", "/bin/sh", "if [ $1 -gt 1 ]; then\n    mv /etc/old /etc/new\nfi\n"),
        ("%post", "/bin/sh", "if [ $1 -eq 2 ]; then evil; fi\n"),
        ("%preun", "<lua>", "os.remove('/etc/demo')\n"),
        ("%postun", "/bin/sh", "/usr/lib/systemd/systemd-update-helper mark-restart-system-units demo.service || :\n"),
        (
            "%transfiletriggerin",
            "/bin/sh",
            "systemd-hwdb update &>/dev/null || :\n",
        ),
        ("%transfiletriggerin", "/sbin/ldconfig", ""),
        ("%posttrans", "/bin/sh", "/usr/bin/update-ca-trust\n"),
    ],
)
def test_rpm_scriptlets_of_known_kinds(kind: str, interpreter: str, text: str) -> None:
    assert one(text, kind=kind, interpreter=interpreter).uncovered == ()


@pytest.mark.parametrize(
    ("kind", "interpreter", "text"),
    [
        ("%pretrans", "<lua>", "posix.unlink('/etc/demo')\n"),
        ("%post", "<lua>", "rpm.expand('%{lua:x}')\n"),
        ("%post", "/bin/sh", "cp /etc/a /etc/b\n"),
        ("%post", "/usr/bin/demo-setup", ""),
        ("%post", "/bin/sh", "if [ $1 -eq 1 ]; then evil; fi\n"),
        ("%triggerin", "/bin/sh", "if [ $1 -eq 0 ]; then evil; fi\n"),
        ("%filetriggerin", "/bin/sh", 'while read path; do evil "$path"; done\n'),
        ("%pre", "/bin/sh", "systemd-sysusers --replace=/x /elsewhere/evil.conf\n"),
    ],
)
def test_rpm_scriptlets_of_no_known_kind(kind: str, interpreter: str, text: str) -> None:
    assert one(text, kind=kind, interpreter=interpreter).uncovered
