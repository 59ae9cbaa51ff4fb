"""A repository with Fedora's habits, built from specs by the real rpmbuild and createrepo_c, and signed."""

from __future__ import annotations

import time
from pathlib import Path

import pysequoia

from bedplate.toolchain.run import Toolbox

_SERVER = """
Name: server
Epoch: 2
Version: 1.4
Release: 3.fc43
Summary: A daemon as Fedora packages one
License: MIT
URL: https://example.org
Provides: user(server) = dSBzZXJ2ZXIgLSAtIC0gLQ
Provides: group(server)
Requires: (server-tls if openssl-libs)
Requires: (libfoo >= 1.2 or libbar)
Requires(pre): shadow-utils >= 2:4.6
Requires(post): systemd
Recommends: logrotate
Suggests: server-doc
Supplements: (webapp and httpd)
Enhances: desktop
Conflicts: server-old < 1.0
Obsoletes: server-old < 1.0-5
%description
A daemon.
%package libs
Summary: Its library
%description libs
A library.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/lib/systemd/system %{buildroot}/etc %{buildroot}/var/log
mkdir -p %{buildroot}/usr/share/server %{buildroot}/usr/lib64
printf 'program' > %{buildroot}/usr/bin/serverd
ln %{buildroot}/usr/bin/serverd %{buildroot}/usr/bin/server-alias
printf 'ping' > %{buildroot}/usr/bin/server-ping
printf '[Service]' > %{buildroot}/usr/lib/systemd/system/server.service
printf 'conf' > %{buildroot}/etc/server.conf
printf 'data' > %{buildroot}/usr/share/server/data
printf 'library' > %{buildroot}/usr/lib64/libserver.so.1
%pre
getent passwd server >/dev/null || useradd -r server
%post
systemctl preset server.service
%preun -p /bin/sh
:
%transfiletriggerin -- /usr/share/server
echo changed
%files
/usr/bin/serverd
/usr/bin/server-alias
%caps(cap_net_raw=p) /usr/bin/server-ping
/usr/lib/systemd/system/server.service
%config(noreplace) /etc/server.conf
%ghost /var/log/server.log
%dir /usr/share/server
/usr/share/server/data
%files libs
/usr/lib64/libserver.so.1
"""

_NOARCH = """
Name: server-doc
Version: 1.4
Release: 3.fc43
Summary: Words
License: MIT
BuildArch: noarch
%description
Words.
%install
mkdir -p %{buildroot}/usr/share/doc/server
printf 'words' > %{buildroot}/usr/share/doc/server/README
%files
/usr/share/doc/server/README
"""

_MULTILIB = """
Name: libfoo
Version: 1.2
Release: 1.fc43
Summary: A library for two architectures
License: MIT
Provides: libfoo.so.1%{?marker}
%description
A library.
%install
mkdir -p %{buildroot}%{libdir}
printf 'library' > %{buildroot}%{libdir}/libfoo.so.1
%files
%{libdir}/libfoo.so.1
"""


def build_packages(toolbox: Toolbox, directory: Path) -> Path:
    """The RPMs, below ``directory``/repo/Packages: scriptlets, a sysusers provide, rich dependencies, a ghost, a file
    trigger, a file capability, hard links, and one library for two architectures. Returns the repository."""
    repository = directory / "repo"
    packages = repository / "Packages"
    packages.mkdir(parents=True)
    builds = [
        ("server", _SERVER, "x86_64", []),
        ("server-doc", _NOARCH, "x86_64", []),
        ("libfoo", _MULTILIB, "x86_64", ["libdir /usr/lib64", "marker ()(64bit)"]),
        ("libfoo32", _MULTILIB, "i686", ["libdir /usr/lib"]),
    ]
    for name, text, arch, defines in builds:
        spec = directory / f"{name}.spec"
        spec.write_text(text.lstrip())
        macros = [
            f"_topdir {directory / 'build' / name}",
            f"_rpmdir {packages}",
            "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "debug_package %{nil}",
            "__os_install_post %{nil}",
            "_use_internal_dependency_generator 0",
            "__find_requires %{nil}",
            "__find_provides %{nil}",
            *defines,
        ]
        arguments = [word for macro in macros for word in ("--define", macro)]
        toolbox.run("rpmbuild", "-bb", "--target", f"{arch}-linux", *arguments, spec)
    return repository


def write_metadata(repository: Path, key: pysequoia.Tsk, *, armoured: bool = True, now: float | None = None) -> None:
    """Write and sign ``repodata`` as createrepo_c does, with zstd as Fedora has it."""
    import createrepo_c

    paths = sorted((repository / "Packages").iterdir())
    compression = createrepo_c.ZSTD_COMPRESSION
    with createrepo_c.RepositoryWriter(str(repository), len(paths), compression=compression) as writer:
        for path in paths:
            writer.add_pkg_from_file(str(path))
        writer.repomd.set_revision(str(int(now or time.time())))
    sign_metadata(repository, key, armoured=armoured)


def sign_metadata(repository: Path, key: pysequoia.Tsk, *, armoured: bool = True) -> None:
    """Sign repomd.xml as it is."""
    repomd = repository / "repodata/repomd.xml"
    signature = pysequoia.sign(key.signer(), repomd.read_bytes(), mode=pysequoia.SignatureMode.DETACHED, armor=armoured)
    repomd.with_name("repomd.xml.asc").write_bytes(signature)
