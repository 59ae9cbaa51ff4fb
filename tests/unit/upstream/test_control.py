"""Debian control data is read as it is written."""

from __future__ import annotations

import pickle

import pytest

from bedplate.model.errors import BadInput
from bedplate.model.package import UpstreamPackage
from bedplate.upstream import control

DIGEST = "ab" * 32


def stanza(name: str = "libfoo", extra: str = "", arch: str = "amd64", version: str = "1.2-3") -> str:
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\n{extra}Filename: pool/{name}.deb\nSize: 10\n"
        f"SHA256: {DIGEST}\n"
    )


def packages(text: str) -> list[UpstreamPackage]:
    columns = control.parse_packages(text.encode(), "amd64", "test")
    reread = control.load_columns(control.dump_columns(columns))
    assert reread == columns, "the cached form is the parsed form"
    return list(control.make_table(columns, "debian-13", "trixie", "test"))


def test_relations_source_and_flags() -> None:
    (package,) = packages(
        stanza(
            extra="Source: foo (1:1.2-2)\nEssential: yes\nPre-Depends: libc6 (>= 2.38)\n"
            "Depends: a | b (>= 1:2), c:any\nDescription: words\nTag: x::y,\n z::w\nMulti-Arch: same\n"
        )
    )
    assert (package.source_name, package.source_version) == ("foo", "1:1.2-2")
    assert package.essential
    assert dict(package.fields) == {
        "Pre-Depends": ("libc6 (>= 2.38)",),
        "Depends": ("a | b (>= 1:2), c:any",),
        "Multi-Arch": ("same",),
    }
    assert package.location.size == 10


def test_source_without_version_has_the_binarys() -> None:
    (package,) = packages(stanza(extra="Source: foo\n"))
    assert (package.source_name, package.source_version) == ("foo", "1.2-3")


def test_folded_relation_and_tight_colon() -> None:
    (package,) = packages(stanza(extra="Depends:a,\n b (>= 2),\n\tc\n"))
    assert package.fields["Depends"] == ("a, b (>= 2), c",)


def test_other_architectures_are_left_out() -> None:
    text = "\n".join([stanza("a", arch="arm64"), stanza("b", arch="all"), stanza("c")])
    assert [package.name for package in packages(text)] == ["b", "c"]


@pytest.mark.parametrize("text", ["", "\n\n\n", "\n\n" + stanza() + "\n\n\n\n" + stanza("b") + "\n\n"])
def test_empty_lines_do_not_matter(text: str) -> None:
    assert len(packages(text)) == text.count("Package:")


def test_provides_are_found_by_name() -> None:
    text = "\n".join([stanza("a", "Provides: mta, smtp (= 1.0)\n"), stanza("b", "Provides: mta\n"), stanza("mta2")])
    table = control.make_table(control.parse_packages(text.encode(), "amd64", "t"), "u", "s", "t")
    assert [package.name for package in table.providing("mta")] == ["a", "b"]
    assert [package.name for package in table.providing("smtp")] == ["a"]
    assert table.providing("1.0") == []


def test_packages_go_to_another_process_and_back() -> None:
    (package,) = packages(stanza(extra="Depends: a\n"))
    assert pickle.loads(pickle.dumps(package)) == package


def test_package_is_made_once() -> None:
    table = control.make_table(control.parse_packages(stanza().encode(), "amd64", "t"), "u", "s", "t")
    assert table[0] is table.named("libfoo")[0] is table[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (stanza().replace("SHA256", "SHA1"), "lacks 'SHA256'"),
        (stanza().replace(DIGEST, "xyz"), "not 64 hex digits"),
        (stanza().replace("Size: 10", "Size: ten"), "Size is no number"),
        (stanza().replace("Size: 10", "Size: -10"), "Size is no number"),
        (stanza().replace("pool/", "/pool/"), "leaves the archive"),
        (stanza(extra="Source: a b c\n"), "Source is wrong"),
        (stanza(extra="Depends: \x1f\n"), "control characters"),
    ],
)
def test_bad_stanza_is_named(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        packages(text)


def test_release_table() -> None:
    fields, table = control.parse_release(
        "Suite: stable\nMD5Sum:\n d41d 0 main/x\nSHA256:\n aa  12 main/Packages\n bb 7 main/Packages.xz\nDate: now\n"
    )
    assert fields["Suite"] == "stable"
    assert fields["Date"] == "now"
    assert table == {"main/Packages": ("aa", 12), "main/Packages.xz": ("bb", 7)}


def test_damaged_cache_is_noticed() -> None:
    data = control.dump_columns(control.parse_packages(stanza().encode(), "amd64", "t"))
    assert control.load_columns(data[:-1]) is None
    assert control.load_columns(b"older version" + data) is None
    assert control.load_columns(b"") is None
