"""The kinds of root file systems by the name a track gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bedplate.compose.roots.base import RootJob, RootWriter
from bedplate.compose.roots.erofs import ErofsRoot
from bedplate.compose.roots.ext4 import Ext4Root

ROOT_KINDS: Mapping[str, Callable[[RootJob], RootWriter]] = {"erofs": ErofsRoot, "ext4": Ext4Root}
