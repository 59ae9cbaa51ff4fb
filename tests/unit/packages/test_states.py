"""States of a repository are kept, found, compared, and served again."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.model.errors import BadInput
from bedplate.packages.states import HeldPackage, State, StateStore, compare, merged


def held(name: str, evr: str, sha256: str = "") -> HeldPackage:
    return HeldPackage(
        name, evr, "noarch", f"{name}-{evr}", "", sha256 or evr, f"Packages/{name}-{evr}.rpm", 1, (name,), (), ()
    )


def publish(store: StateStore, identity: str, *packages: HeldPackage) -> State:
    """Serve ``packages`` and keep the state, as an import does."""
    for one in packages:
        path = store.served / one.location
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(one.sha256)
    metadata = store.served / f".repodata-{identity}"
    metadata.mkdir(parents=True)
    (metadata / "repomd.xml").write_text(identity)
    link = store.served / "repodata"
    link.unlink(missing_ok=True)
    link.symlink_to(metadata.name)
    return store.keep(State(identity, 0, f"digest-{identity}", packages, "test"))


def test_a_kept_state_costs_no_data_and_can_be_brought_back(tmp_path: Path) -> None:
    store = StateStore(tmp_path, "1/x86_64")
    first = publish(store, "20260101T000000Z-aa", held("a", "1-1"))
    publish(store, "20260102T000000Z-bb", held("a", "2-1"))
    kept = tmp_path / "states" / first.id / "1/x86_64" / "Packages/a-1-1.rpm"
    assert kept.samefile(store.served / "Packages/a-1-1.rpm")
    (store.served / "Packages/a-1-1.rpm").unlink()
    store.bring_back(store.find("previous"))
    assert (store.served / "Packages/a-1-1.rpm").read_text() == "1-1"
    assert (store.place(first) / "repodata/repomd.xml").read_text() == first.id


def test_the_same_content_is_not_kept_twice(tmp_path: Path) -> None:
    store = StateStore(tmp_path, "1/x86_64")
    first = publish(store, "20260101T000000Z-aa", held("a", "1-1"))
    again = store.keep(State("20260103T000000Z-aa", 9, first.repomd_sha256, first.packages))
    assert again == first
    assert [one.id for one in store.summaries()] == [first.id]


@pytest.mark.parametrize("wanted", ["20260101T000000Z-aa", "20260101", "2026-01-01", "digest-20260101T000000Z-aa"])
def test_a_state_is_found_by_id_start_date_and_digest(tmp_path: Path, wanted: str) -> None:
    store = StateStore(tmp_path, "1/x86_64")
    first = publish(store, "20260101T000000Z-aa", held("a", "1-1"))
    publish(store, "20260105T000000Z-bb", held("a", "2-1"))
    assert store.find(wanted) == first


def test_a_date_between_means_the_state_before_it(tmp_path: Path) -> None:
    store = StateStore(tmp_path, "1/x86_64")
    first = publish(store, "20260101T000000Z-aa", held("a", "1-1"))
    publish(store, "20260105T000000Z-bb", held("a", "2-1"))
    assert store.find("2026-01-04") == first
    with pytest.raises(BadInput):
        store.find("2025-12-31")


def test_what_changed_is_said_by_name() -> None:
    old = State("o", 0, "", (held("a", "1-1"), held("b", "1-1"), held("c", "2-1"), held("d", "1-1", "x")))
    new = State("n", 0, "", (held("a", "2-1"), held("c", "1-1"), held("d", "1-1", "y"), held("e", "1-1")))
    assert {(one.name, one.kind) for one in compare(old, new)} == {
        ("a", "upgraded"),
        ("b", "removed"),
        ("c", "downgraded"),
        ("d", "rebuilt"),
        ("e", "added"),
    }


def test_older_versions_stay_to_go_back_to() -> None:
    before = [held("a", f"{number}-1") for number in (1, 2, 3)] + [held("b", "1-1")]
    kept, gone = merged(before, [held("a", "4-1")], 3)
    assert [(one.name, one.evr) for one in kept] == [("a", "4-1"), ("a", "3-1"), ("a", "2-1"), ("b", "1-1")]
    assert gone == {"a": 1}
