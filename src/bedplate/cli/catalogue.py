"""What the repository holds, as text for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bedplate.cli.console import human_bytes

if TYPE_CHECKING:
    from bedplate.flows.catalogue import Described, Reason
    from bedplate.model.package import FileEntry
    from bedplate.packages.states import Change, StateSummary

SHOWN_DEPENDENTS = 25


def described_text(body: Described) -> str:
    """One package in full."""
    package = body.package
    rows = [
        ("package", f"{package.name} {package.evr} ({package.arch})"),
        ("summary", package.summary),
        ("source", package.source),
        ("licence", body.licence),
        ("home page", body.url),
        ("size", f"{human_bytes(package.size)}, installed {human_bytes(body.installed_size)} in {body.files} files"),
        ("in here for", " > ".join(package.why)),
        ("versions", ", ".join(body.versions)),
        ("facts", ", ".join(body.facts) or "none"),
    ]
    lines = [f"{name:12} {value}" for name, value in rows if value]
    for script, verdict, reason in body.verdicts:
        lines.append(f"{script:12} {verdict}: {reason}")
    for title, values in (
        ("requires", package.requires),
        ("provides", package.provides),
        ("conflicts", body.conflicts),
    ):
        if values:
            lines += ["", f"{title}:", *(f"  {value}" for value in values)]
    return "\n".join([*lines, "", body.description.strip()])


def file_line(entry: FileEntry) -> str:
    """A file as ``ls -l`` would show it."""
    kind = {"directory": "d", "symlink": "l"}.get(entry.kind.value, "-")
    target = f" -> {entry.target}" if entry.target else ""
    more = f"  [{entry.capabilities}]" if entry.capabilities else ""
    return f"{kind}{entry.mode:04o} {entry.user}:{entry.group} {entry.size:>10} {entry.path}{target}{more}"


def file_json(entry: FileEntry) -> dict[str, Any]:
    """A file for programs."""
    return {
        "path": entry.path,
        "kind": entry.kind.value,
        "mode": f"{entry.mode:04o}",
        "user": entry.user,
        "group": entry.group,
        "size": entry.size,
        "sha256": entry.sha256,
        "target": entry.target,
        "capabilities": entry.capabilities,
    }


def reason_text(reason: Reason) -> str:
    """Why a package is there."""
    lines = [" > ".join(reason.chain) if len(reason.chain) > 1 else f"{reason.package.name} was asked for"]
    asking = list(reason.required_by.items())
    if asking:
        lines.append(f"{len(asking)} packages require it:")
        lines += [f"  {name}: {', '.join(texts[:3])}" for name, texts in asking[:SHOWN_DEPENDENTS]]
        if len(asking) > SHOWN_DEPENDENTS:
            lines.append(f"  and {len(asking) - SHOWN_DEPENDENTS} more")
    else:
        lines.append("no package requires it")
    return "\n".join(lines)


def change_line(change: Change) -> str:
    """One difference between two states."""
    versions = " -> ".join(version for version in (change.old, change.new) if version)
    return f"{change.kind:10} {change.name} {versions}"


def snapshot_line(one: StateSummary) -> str:
    """One kept state."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(one.created))
    return f"{'*' if one.current else ' '} {one.id}  {when}  {one.count} packages  {one.comment}"
