"""Owned files: what a directory and its manifest become."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.compose.owned import load_set, load_sets
from bedplate.model.definition.load import load_definition
from bedplate.model.errors import BadInput
from bedplate.model.package import FileKind


def write_set(folder: Path, manifest: str = 'description = "d"\n') -> Path:
    root = folder / "base"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("hello\n")
    (folder / "base.toml").write_text(manifest)
    return root


def test_files_links_and_directories(tmp_path: Path) -> None:
    root = write_set(
        tmp_path,
        'description = "d"\n[modes]\n"/etc/motd" = { mode = "0640", group = "shadow" }\n'
        '[directories]\n"/var/empty" = { mode = "0700" }\n[links]\n"/etc/mtab" = "../proc/self/mounts"\n',
    )
    (root / "etc/tool").write_text("#!/bin/sh\n")
    (root / "etc/tool").chmod(0o755)
    (root / "etc/link").symlink_to("motd")
    found = {entry.path: entry for entry in load_set(tmp_path, "base").files}
    assert (found["/etc/motd"].mode, found["/etc/motd"].group) == (0o640, "shadow")
    assert found["/etc/tool"].mode == 0o755
    assert (found["/etc/link"].kind, found["/etc/link"].target) == (FileKind.SYMLINK, "motd")
    assert found["/etc/mtab"].target == "../proc/self/mounts"
    assert (found["/var/empty"].kind, found["/var/empty"].mode) == (FileKind.DIRECTORY, 0o700)


def test_umask_of_a_checkout_does_not_matter(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    first = load_set(tmp_path, "base").digest
    (root / "etc/motd").chmod(0o600)
    assert load_set(tmp_path, "base").digest == first
    (root / "etc/motd").chmod(0o755)
    assert load_set(tmp_path, "base").digest != first


def test_all_mistakes_of_a_manifest_at_once(tmp_path: Path) -> None:
    write_set(tmp_path, 'colour = "red"\n[modes]\n"/etc/motd" = { mode = "99" }\n')
    with pytest.raises(BadInput) as caught:
        load_set(tmp_path, "base")
    text = str(caught.value)
    assert "base.toml" in text and "description" in text and "colour" in text and "modes" in text


def test_modes_for_files_that_are_not_there(tmp_path: Path) -> None:
    write_set(tmp_path, 'description = "d"\n[modes]\n"/etc/other" = { mode = "0600" }\n')
    with pytest.raises(BadInput, match="mistakes"):
        load_set(tmp_path, "base")


def test_a_set_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no set 'gone'"):
        load_sets(tmp_path, ["gone"])


def test_a_keyring_comes_from_the_keys_in_use(tmp_path: Path) -> None:
    write_set(tmp_path, 'description = "d"\n[keyrings]\n"/usr/lib/systemd/import-pubring.gpg" = "update"\n')
    (tmp_path / "update").write_bytes(b"one key")
    first = load_set(tmp_path, "base", tmp_path.__truediv__)
    assert first.sources["/usr/lib/systemd/import-pubring.gpg"].read_bytes() == b"one key"
    (tmp_path / "update").write_bytes(b"two keys")
    assert load_set(tmp_path, "base", tmp_path.__truediv__).digest != first.digest


def test_the_sets_of_the_distribution_load(tmp_path: Path) -> None:
    keys = tmp_path
    for role in ("update", "packages", "reuse.c"):
        (keys / role).write_bytes(b"public")
    distro = Path(__file__).parents[3] / "distro"
    found = [p for p in distro.rglob("*.toml") if p.relative_to(distro).parts[0] not in ("locks", "files")]
    definition = load_definition({str(path.relative_to(distro)): path.read_text() for path in found})
    ids = definition.ids
    for track in definition.tracks.values():
        for owned in load_sets(distro / "files", track.files, keys.__truediv__, keys.__truediv__):
            for entry in owned.files:
                assert entry.user in ids.users, entry
                assert entry.group in ids.groups or entry.group in ids.users, entry
