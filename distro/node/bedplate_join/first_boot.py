"""What cloud-init's module does with the directive: the shell, then the join. Its words go to cloud-init's log, where
``cloud-init status`` finds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from bedplate_join import notice
from bedplate_join.directive import parse_directive
from bedplate_join.door import run
from bedplate_join.errors import Away, BadInput, JoinError
from bedplate_join.joining import Joiner
from bedplate_join.programs import Programs, last_words
from bedplate_join.state import State, Step, Store, write

_USERADD = Path("/etc/default/useradd")
_SHELLS = Path("/etc/shells")


class Log(Protocol):
    """Where words go."""

    def info(self, message: str, *values: object) -> None: ...
    def warning(self, message: str, *values: object) -> None: ...


def configure(values: object, users: object, default_user: str, log: Log) -> None:
    """Do what the directive says. What is wrong is said in full; nothing is done then."""
    try:
        directive = parse_directive(values)
    except BadInput as error:
        for mistake in error.mistakes:
            log.warning("user data: %s", mistake)
        log.warning("user data: nothing below bedplate was done; %s", error.remedy)
        notice.show(Path("/"), State(Step.FAILED, "a directory", "; ".join(error.mistakes), error.remedy))
        return
    if directive.shell:
        _shell(directive.shell, users, default_user, log)
    if directive.join is None:
        return
    try:
        Joiner(Store(), Programs()).join(directive.join)
        log.info("this machine is a member of %s", directive.join.domain)
    except Away as error:
        log.warning("not yet a member of %s: %s; %s", directive.join.domain, error.message, error.remedy)
    except JoinError as error:
        log.warning("not a member of %s: %s; %s", directive.join.domain, error.message, error.remedy)


def _shell(shell: str, users: object, default_user: str, log: Log) -> None:
    name = shell.rpartition("/")[2]
    path = Path(shell if "/" in shell else f"/bin/{name}")
    if not path.exists():
        done = run(["dnf", "-y", "-q", "install", name], seconds=1800)
        if done.code != 0 or not path.exists():
            log.warning(
                "user data: bedplate.shell: no %s here, and no package %s can be installed: %s; accounts keep theirs",
                *(path, name, last_words(done)),
            )
            return
    _USERADD.write_text(_with_shell(_USERADD.read_text() if _USERADD.exists() else "", path))
    known = _SHELLS.read_text() if _SHELLS.exists() else ""
    if str(path) not in known.splitlines():
        write(_SHELLS, f"{known.rstrip()}\n{path}\n")
    for user in accounts(users, default_user):
        done = run(["usermod", "--shell", str(path), user], seconds=60)
        if done.code != 0:
            log.warning("the shell of %s was not changed: %s", user, last_words(done))


def _with_shell(text: str, path: Path) -> str:
    kept = [line for line in text.splitlines() if not re.match(r"\s*SHELL=", line)]
    return "\n".join([*kept, f"SHELL={path}"]) + "\n"


def accounts(users: object, default_user: str) -> list[str]:
    """The accounts of user data that name no shell of their own."""
    found: list[str] = []
    for user in users if isinstance(users, list) else ["default"]:
        if isinstance(user, Mapping):
            values: Mapping[str, Any] = user
            if isinstance(values.get("name"), str) and not values.get("shell") and not values.get("snapuser"):
                found.append(values["name"])
        elif isinstance(user, str):
            found.append(default_user if user == "default" else user)
    return [name for name in found if name]
