"""The image is the same whoever builds it: root, root in a container, or a plain user."""

from __future__ import annotations

import pytest
from tests.support.builds import PLAIN_USER, WITHOUT_SYS_ADMIN, require_root, root_digest, start_build

pytestmark = pytest.mark.vm


@pytest.mark.parametrize("become", [PLAIN_USER, WITHOUT_SYS_ADMIN], ids=["plain-user", "root-without-cap-sys-admin"])
def test_the_same_root(workspace, container_build, place, become):
    require_root(start_build(workspace, place, become), root_digest(container_build))
