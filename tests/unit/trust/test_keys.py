"""Keys: made on first use, marked, private, one per role however many ask at once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from bedplate.model.errors import BadInput
from bedplate.trust import openpgp
from bedplate.trust.keys import KeyStore
from bedplate.trust.marks import is_development
from bedplate.trust.roles import ALL_ROLES, Kind


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


def test_first_use_makes_a_development_key_and_keeps_it(store: KeyStore) -> None:
    first = store.ensure("boot")
    assert first.kind is Kind.DEVELOPMENT
    assert first.active
    assert store.ensure("boot") == first


def test_development_mark_is_in_the_certificate_itself(store: KeyStore) -> None:
    info = store.ensure("boot")
    certificate = x509.load_pem_x509_certificate((info.directory / "cert.pem").read_bytes())
    assert is_development(certificate)
    assert "not for release" in info.subject


def test_release_key_is_not_taken_for_a_development_key(store: KeyStore) -> None:
    for role in ALL_ROLES:
        info = store.create(role.id, Kind.RELEASE)
        assert info.kind is Kind.RELEASE, role.id
        assert "DEVELOPMENT" not in info.subject


def test_mark_survives_a_long_distribution_name(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", distribution="A distribution with a very long name " * 3)
    assert store.ensure("boot").kind is Kind.DEVELOPMENT


def test_files_are_private(store: KeyStore) -> None:
    for role in ALL_ROLES:
        store.ensure(role.id)
    for path in [store.directory, *store.directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_two_first_uses_at_once_make_one_key(tmp_path: Path) -> None:
    stores = [KeyStore(tmp_path / "keys") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        ids = {info.id for info in pool.map(lambda store: store.ensure("packages"), stores)}
    assert len(ids) == 1
    assert len(stores[0].list()) == 1


def test_new_key_replaces_the_active_one_and_the_old_can_come_back(store: KeyStore) -> None:
    old = store.ensure("packages")
    new = store.create("packages")
    assert store.ensure("packages").id == new.id
    store.activate(old.id)
    assert store.ensure("packages").id == old.id
    assert [info.active for info in store.list() if info.role == "packages"].count(True) == 1


def test_public_identity_changes_with_a_key_and_only_then(store: KeyStore) -> None:
    before = store.public_identity()
    assert KeyStore(store.directory).public_identity() == before
    store.create("packages")
    assert store.public_identity() != before


def test_unknown_id_names_those_there_are(store: KeyStore) -> None:
    known = store.ensure("packages")
    with pytest.raises(BadInput, match="no key 'boot-0'") as caught:
        store.show("boot-0")
    assert known.id in caught.value.remedy


def test_unknown_role_names_those_there_are(store: KeyStore) -> None:
    with pytest.raises(BadInput) as caught:
        store.create("kernel")
    assert "boot, online, packages, pcr, release, root, update" in caught.value.remedy


def test_images_trust_the_announced_key_before_it_is_in_use(store: KeyStore) -> None:
    old = store.signer("update").public
    following = store.prepare("update")
    new = openpgp.load((following.directory / "key.pgp").read_bytes(), "next").certificate
    assert (following.active, following.next) == (False, True)
    assert store.signer("update").public == old
    assert store.keyring("update") == old + new
    store.activate(following.id)
    assert store.signer("update").public == new
    assert store.keyring("update") == new, "the old key is trusted no more"


def test_announcing_a_key_is_an_input_of_the_image(store: KeyStore) -> None:
    before = store.public_identity()
    store.prepare("update")
    assert store.public_identity() != before


def test_the_announced_key_is_of_the_kind_in_use(store: KeyStore) -> None:
    store.create("update", Kind.RELEASE)
    assert store.prepare("update").kind is Kind.RELEASE


def test_store_keys_are_no_inputs_of_images(store: KeyStore) -> None:
    before = store.public_identity()
    store.create("release")
    assert store.public_identity() == before


def test_only_openpgp_roles_have_keyrings(store: KeyStore) -> None:
    with pytest.raises(BadInput, match="no OpenPGP keys"):
        store.keyring("boot")
