"""The tree of an image as a value: every path, whose it is, and where its bytes come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.package import FileKind


class Transform(StrEnum):
    """What is done to a file's bytes between package and image."""

    NONE = ""
    UNXZ = "unxz"


@dataclass(frozen=True, slots=True)
class FromGroup:
    """Content that lies in a content group: ``group`` is the group's key, ``path`` the file's name within it.

    A group is one package's selected files (with their transforms) or one stage's output; its key is a digest of all
    that its bytes depend on, so that whatever was made from a group can be cached under its key.
    """

    group: str
    path: str


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One path of the finished image.

    ``mode`` holds permission, set-id and sticky bits. ``owner`` says whose path it is: ``package:NAME``,
    ``files:SET`` (owned by the distribution's definition) or ``stage:NAME``. ``hardlink`` names the first path of
    the link group, empty for a file with one name. ``xattrs`` are sorted by name.
    """

    path: str
    kind: FileKind
    mode: int
    uid: int
    gid: int
    mtime: int
    owner: str
    size: int = 0
    target: str = ""
    content: FromGroup | None = None
    hardlink: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()
