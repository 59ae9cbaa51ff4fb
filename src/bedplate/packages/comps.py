"""Groups of packages as comps.xml, which ``dnf group`` reads.

Source: libcomps' ``comps.dtd``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from xml.sax.saxutils import escape

from bedplate.model.definition.sets import PackageGroup

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def comps(groups: Mapping[str, PackageGroup], available: Collection[str]) -> bytes:
    """The groups with those of their packages that are ``available``, in the order of the set, without empty ones."""
    body = []
    for order, (name, group) in enumerate(groups.items(), start=1):
        packages = [package for package in group.packages if package in available]
        if not packages:
            continue
        body.append(
            f"  <group>\n    <id>{escape(name)}</id>\n    <name>{escape(group.title)}</name>\n"
            f"    <description>{escape(group.description)}</description>\n    <default>false</default>\n"
            f"    <uservisible>true</uservisible>\n    <display_order>{order}</display_order>\n    <packagelist>\n"
        )
        body += [f'      <packagereq type="mandatory">{escape(package)}</packagereq>\n' for package in packages]
        body.append("    </packagelist>\n  </group>\n")
    return f"{_HEAD}<comps>\n{''.join(body)}</comps>\n".encode()
