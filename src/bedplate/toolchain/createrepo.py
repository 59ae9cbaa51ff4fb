"""createrepo_c's library, loaded without the complaint its rpm makes on stderr about a host that has no rpm."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

_VARIABLE = "RPM_CONFIGDIR"


@cache
def createrepo_c() -> ModuleType:
    """The module. Its rpm reads an empty configuration: nothing here depends on one."""
    before = os.environ.get(_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="bedplate-") as empty:
        for name in ("rpmrc", "macros"):
            (Path(empty) / name).touch()
        os.environ[_VARIABLE] = empty
        try:
            import createrepo_c as module
        finally:
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before
    return module
