"""Accounts with their frozen ids as sysusers.d(5) lines."""

from __future__ import annotations

from bedplate.model.definition.facts import Ids


def sysusers_lines(ids: Ids) -> list[str]:
    """Every account of ``ids``: groups first, then users, then memberships, each sorted by number or name."""
    lines = [f"g {name} {gid}" for name, gid in sorted(ids.groups.items(), key=lambda item: (item[1], item[0]))]
    for name, user in sorted(ids.users.items(), key=lambda item: (item[1].uid, item[0])):
        number = f"{user.uid}:{user.group}" if user.group else str(user.uid)
        lines.append(f'u {name} {number} "{user.gecos or name}" {user.home} {user.shell}')
    lines += [f"m {user} {group}" for group, users in sorted(ids.members.items()) for user in sorted(users)]
    return lines


def snippet(ids: Ids, package: str) -> str:
    """The sysusers.d file of a package that brings these accounts; empty when there are none."""
    lines = sysusers_lines(ids)
    return "\n".join([f"# Accounts of {package}. The numbers are frozen.", *lines, ""]) if lines else ""
