"""Who the image is: os-release and the list of its packages. Pure.

Sources: os-release(5); the package list is Bedplate's own (docs/reference).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import file_output, output
from bedplate.model.package import Nevra, SourceRef

OS_RELEASE = "/usr/lib/os-release"
PACKAGES = "/usr/share/bedplate/packages.json"


@dataclass(frozen=True, slots=True)
class ImageName:
    """What os-release says. ``version`` is the image's, ``build`` the digest of what it was made from."""

    distribution: str
    distribution_name: str
    distribution_version: str
    home_url: str
    track: str
    title: str
    version: str
    build: str


def os_release(name: ImageName) -> bytes:
    """The text of os-release."""
    fields = {
        "ID": name.distribution,
        "NAME": name.distribution_name,
        "VERSION_ID": name.distribution_version,
        "PRETTY_NAME": f"{name.distribution_name} {name.distribution_version} ({name.title})",
        "VARIANT": name.title,
        "VARIANT_ID": name.track,
        "IMAGE_ID": f"{name.distribution}-{name.track}",
        "IMAGE_VERSION": name.version,
        "BUILD_ID": name.build,
        "DEFAULT_HOSTNAME": "node",
        "HOME_URL": name.home_url,
    }
    return "".join(f"{key}={_quoted(value)}\n" for key, value in fields.items() if value).encode()


def kernel_os_release(name: ImageName, version: str, release: str) -> bytes:
    """The text of os-release in a kernel image that comes as a package: it belongs to a track, not to one image.

    ``version`` is the kernel's (``uname -r``), ``release`` the package's version and release. The boot loader takes
    IMAGE_ID as the key to sort by, and IMAGE_VERSION behind it, the newest first.
    """
    fields = {
        "ID": name.distribution,
        "NAME": name.distribution_name,
        "PRETTY_NAME": f"{name.distribution_name} ({name.title}), Linux {version}, {release}",
        "VARIANT": name.title,
        "VARIANT_ID": name.track,
        "IMAGE_ID": f"{name.distribution}-{name.track}",
        "IMAGE_VERSION": release,
        "HOME_URL": name.home_url,
    }
    return "".join(f"{key}={_quoted(value)}\n" for key, value in fields.items() if value).encode()


def _quoted(value: str) -> str:
    if value and all(c.isalnum() or c in "._-" for c in value):
        return value
    return '"' + "".join("\\" + c if c in '"\\$`' else c for c in value) + '"'


def package_list(packages: Iterable[tuple[Nevra, SourceRef]]) -> bytes:
    """JSON: name, evr, arch and source (name and EVR) of each package, sorted by name."""
    rows = [
        {
            "name": nevra.name,
            "evr": str(nevra.evr),
            "arch": nevra.arch,
            "source": source.name,
            "source_evr": str(source.evr),
        }
        for nevra, source in sorted(packages, key=lambda item: item[0].name)
    ]
    return (json.dumps(rows, indent=1, sort_keys=True) + "\n").encode()


def who(name: ImageName, packages: Iterable[tuple[Nevra, SourceRef]]) -> StageOutput:
    """os-release and the package list."""
    return output(
        "identity",
        [file_output(OS_RELEASE, os_release(name)), file_output(PACKAGES, package_list(packages))],
        links={"/etc/os-release": "../usr/lib/os-release"},
        replaces=(OS_RELEASE, "/etc/os-release"),
    )
