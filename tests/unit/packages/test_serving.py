"""A repository over HTTP for a machine on the desk: files, and a plain word when there are none."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bedplate.model.errors import BadInput
from bedplate.packages.serving import repository_server


def repository(root: Path) -> Path:
    """Something that looks like one."""
    (root / "s1/x86_64/repodata").mkdir(parents=True)
    (root / "s1/x86_64/repodata/repomd.xml").write_text("<repomd/>")
    return root


@pytest.mark.parametrize(("address", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_files_are_served_and_nothing_above_them(tmp_path: Path, address: str, host: str) -> None:
    root = repository(tmp_path / "repository")
    (tmp_path / "secret").write_text("no")
    with repository_server(root, address) as port:
        base = f"http://{host}:{port}"
        with urllib.request.urlopen(f"{base}/s1/x86_64/repodata/repomd.xml", timeout=30) as answer:
            assert answer.read() == b"<repomd/>"
        for path in ("/../secret", "/%2e%2e/secret", "/s1/nothing"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(base + path, timeout=30)


def test_a_port_that_is_taken_and_a_directory_without_a_repository_are_told(tmp_path: Path) -> None:
    root = repository(tmp_path / "repository")
    with (
        repository_server(root) as port,
        pytest.raises(BadInput, match="cannot listen"),
        repository_server(root, port=port),
    ):
        pass
    with pytest.raises(BadInput, match="no package repository"), repository_server(tmp_path / "empty"):
        pass
