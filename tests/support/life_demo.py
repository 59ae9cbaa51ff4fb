"""Packages that bring one of everything file triggers act on, in any version, and a repository whose states a test
decides."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.packages import TIME, contents_of, regular

from bedplate.flows.repository import updateinfo
from bedplate.model.advisory import AdvisedPackage, Advisory
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.definition.sets import PackageGroup
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra, SourceRef
from bedplate.packages.comps import comps
from bedplate.packages.repository import RepositoryPackage, Signer, write_repository
from bedplate.packages.rpm.sign import sign_rpms
from bedplate.packages.rpm.spec import PackageSpec
from bedplate.packages.rpm.writer import write_rpm

MANY = 1001
MODULES = "/usr/lib/python3/dist-packages/life_modules"
UNIT = """\
[Unit]
Description=A demo that says how it was stopped
[Service]
ExecStart=/usr/bin/life-demo run
ExecStop=/usr/bin/life-demo stop
[Install]
WantedBy=multi-user.target
"""
PROGRAM = """\
#!/bin/sh
case $1 in
run) exec sleep infinity ;;
stop) echo "version {version} was stopped well" >/var/lib/life-demo/stopped ;;
*) echo {version} ;;
esac
"""


def demo_files(version: int) -> dict[str, bytes]:
    """The demo's files by path."""
    return {
        "/usr/bin/life-demo": PROGRAM.format(version=version).encode(),
        "/usr/lib/systemd/system/life-demo.service": UNIT.encode(),
        "/usr/lib/systemd/system-preset/50-life-demo.preset": b"enable life-demo.service\n",
        "/usr/lib/sysusers.d/life-demo.conf": b"u life-demo 899 - /var/lib/life-demo\n",
        "/usr/lib/tmpfiles.d/life-demo.conf": b"d /var/lib/life-demo 0750 life-demo life-demo -\n",
        "/usr/share/ca-certificates/life-demo.crt": certificate(),
    }


def other_files() -> dict[str, bytes]:
    """Files of the package beside it: their triggers take long, and the versions of the demo come and go without."""
    return {
        "/usr/bin/life-other": b"#!/bin/sh\n",
        "/usr/share/selinux/packages/life_other.cil": _module("other"),
        **{f"/usr/share/selinux/default/life_{name}.cil": _module(name) for name in ("first", "second")},
        "/usr/share/man/man1/life-other.1.gz": gzip.compress(
            b".TH LIFE-OTHER 1\n.SH NAME\nlife-other \\- brings what takes long\n", mtime=0
        ),
    }


def module_files() -> dict[str, bytes]:
    """Files of a package of more Python modules than are compiled while dnf waits."""
    return {f"{MODULES}/m{number}.py": b"n = %d\n" % number for number in range(MANY)}


def _module(name: str) -> bytes:
    return f"(type life_{name}_t)\n(roletype object_r life_{name}_t)\n".encode()


def certificate() -> bytes:
    """A new authority's certificate, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Life Demo Authority")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def write_package(out: Path, name: str, version: int, files: dict[str, bytes]) -> Nevra:
    """Write an unsigned package to ``out``."""
    evr = Evr(0, str(version), "1")
    nevra = Nevra(name, evr, "noarch")
    spec = PackageSpec(
        nevra=nevra,
        source=SourceRef(name, evr),
        summary=f"{name} in version {version}",
        description="For tests.",
        license="MIT",
        build_time=TIME,
        files=tuple(regular(path, data, 0o755 if "/bin/" in path else 0o644) for path, data in files.items()),
    )
    write_rpm(spec, contents_of(files), out)
    return nevra


@dataclass
class LifeRepository:
    """The repository in ``folder``: packages already there, and demos added to them."""

    folder: Path
    scratch: Path
    definition: DefinitionSet
    signer: Signer

    def add(self, name: str, version: int, files: dict[str, bytes], signer: Signer | None = None) -> Path:
        """Put a signed package into the folder; it is offered from the next :meth:`publish` on."""
        unsigned = self.scratch / f"{name}-{version}.rpm"
        nevra = write_package(unsigned, name, version, files)
        target = self.folder / "Packages" / f"{nevra}.rpm"
        target.unlink(missing_ok=True)
        sign_rpms([(unsigned, target)], signer or self.signer, 1)
        return target

    def publish(self, revision: int, advised: Sequence[tuple[str, int]] = (), signer: Signer | None = None) -> None:
        """Offer all that lies in the folder, as the state ``revision``; ``advised`` are names and versions that fix
        something."""
        packages = [RepositoryPackage(path, f"Packages/{path.name}") for path in self.folder.glob("Packages/*.rpm")]
        group = {"life": PackageGroup(title="Life demo", description="For tests", packages=["life-demo", "life-other"])}
        extra = {"group": comps(group, ["life-demo", "life-other"])}
        if advised:
            extra["updateinfo"] = updateinfo(self.definition, [_advisory(*one) for one in advised])
        write_repository(
            self.folder,
            packages,
            revision=revision,
            cache=self.scratch / "descriptions",
            signer=signer or self.signer,
            extra=extra,
        )


def _advisory(name: str, version: int) -> Advisory:
    evr = Evr(0, str(version), "1")
    package = AdvisedPackage(Nevra(name, evr, "noarch"), SourceRef(name, evr))
    return Advisory(f"TEST-2026:{name}-{evr}", f"{name} {evr}", TIME, (package,), cves=("CVE-2026-4242",))
