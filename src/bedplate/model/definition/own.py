"""``distro/own/*.toml``: packages made from the definition alone, without an upstream file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bedplate.model.definition.base import Definition
from bedplate.model.definition.facts import Mode


class OwnFile(Definition):
    """A file of an own package.

    ``content`` may hold ``@ID@``, ``@NAME@``, ``@VERSION@``, ``@STREAM@`` and ``@HOME_URL@``, which stand for the
    distribution's. ``make`` asks for content made from the definition instead: ``sysusers`` is every user and group of
    ``ids.toml`` as sysusers.d(5), ``key`` the public key of the role named by ``key``, ``keyring`` its keys in use and
    announced, ``alternatives`` every link that packages offer a target for, one a line: link, priority, target; the
    highest priority of a link first.
    """

    content: str = ""
    make: Literal["", "sysusers", "key", "keyring", "alternatives"] = ""
    key: str = Field(default="", description='Role of the public keys, for `make = "key"` and "keyring"')
    mode: Mode = Mode(mode="0644")
    verbatim: bool = Field(default=False, description="`@NAME@` and the like in the content stay as they are")
    config: bool = Field(default=False, description="An administrator may change it: kept on upgrade")


class OwnTrigger(Definition):
    """A file trigger (rpm-file-triggers(7)): ``script`` runs for paths below ``prefixes``."""

    kind: Literal[
        "%filetriggerin",
        "%filetriggerun",
        "%filetriggerpostun",
        "%transfiletriggerin",
        "%transfiletriggerun",
        "%transfiletriggerpostun",
    ]
    prefixes: list[str]
    script: str
    interpreter: str = "/bin/sh"
    priority: int = Field(default=1_000_000, description="Of several triggers the higher one runs first")


class OwnPackage(Definition):
    """One package. Its version is the distribution's; ``release`` counts up with each change of the package."""

    name: str = Field(pattern=r"^[a-z][a-z0-9.+-]*$")
    release: str = Field(pattern=r"^[0-9][0-9A-Za-z.+~^]*$")
    summary: str
    description: str
    requires: list[str] = []
    provides: list[str] = []
    conflicts: list[str] = []
    obsoletes: list[str] = []
    directories: dict[str, Mode] = Field(default={}, description="Path -> mode and owner")
    links: dict[str, str] = Field(default={}, description="Symbolic links: path -> target")
    files: dict[str, OwnFile] = {}
    trees: dict[str, str] = Field(
        default={}, description="Directory of the image -> directory below `distro/` whose text files go there"
    )
    triggers: list[OwnTrigger] = []
