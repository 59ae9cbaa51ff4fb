"""Accounts: passwd, group, shadow, gshadow from the frozen table. Pure.

Sources: passwd(5), group(5), shadow(5), gshadow(5), subuid(5). Every account is locked: nobody logs in by password.
"""

from __future__ import annotations

from bedplate.compose.plan import StageOutput, group_numbers
from bedplate.compose.stages.base import file_output, output
from bedplate.model.definition.facts import Ids, User

NAME = "users"


def accounts(ids: Ids) -> StageOutput:
    """The account files for ``ids``, sorted by number."""
    gids = group_numbers(ids)
    users = sorted(ids.users.items(), key=lambda item: item[1].uid)
    groups = sorted(gids.items(), key=lambda item: item[1])
    passwd = [_passwd(name, user, gids) for name, user in users]
    members = {name: ",".join(sorted(ids.members.get(name, []))) for name, _ in groups}
    files = [
        file_output("/etc/passwd", _lines(passwd)),
        file_output("/etc/group", _lines([f"{name}:x:{gid}:{members[name]}" for name, gid in groups])),
        # No date of last change: it would say when the image was built, and a locked account has no password to age.
        file_output("/etc/shadow", _lines([f"{name}:!*:::::::" for name, _ in users]), 0o640, "root", "shadow"),
        file_output(
            "/etc/gshadow", _lines([f"{name}:!*::{members[name]}" for name, _ in groups]), 0o640, "root", "shadow"
        ),
        file_output("/etc/subuid", b""),
        file_output("/etc/subgid", b""),
    ]
    return output(NAME, files, replaces=tuple(entry.path for entry, _ in files))


def _passwd(name: str, user: User, gids: dict[str, int]) -> str:
    return f"{name}:x:{user.uid}:{gids[user.group or name]}:{user.gecos}:{user.home}:{user.shell}"


def _lines(rows: list[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()
