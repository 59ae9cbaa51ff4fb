"""Mirrors are found where they should be, in the order that is written down, and not where they should not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bedplate.model.definition.distro import Distro, Upstream
from bedplate.model.errors import BadInput, BedplateError
from bedplate.upstream.apt_sources import AptSource, parse_deb822, parse_one_line, read_apt_sources
from bedplate.upstream.mirrors import Mirrors, find_mirrors, settings_path
from bedplate.upstream.openpgp import Keyring

ROOT = Path(__file__).parents[3] / "distro"
DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    (found,) = (
        one
        for one in Distro.model_validate(tomllib.loads((ROOT / "distro.toml").read_text())).upstreams
        if one.id == "debian-13"
    )
    return found


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def deb822(text: str) -> list[AptSource]:
    return list(parse_deb822(text, "x.sources"))


def one_line(text: str) -> list[AptSource]:
    return list(parse_one_line(text, "x.list"))


def test_deb822_of_a_debian_container(upstream: Upstream, home: dict[str, str]) -> None:
    sources = deb822(
        "Types: deb\n# URIs: http://commented.example/debian\nURIs: http://m.example/debian\n"
        f"Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: {DEBIAN_KEYS}\n\n"
        "Types: deb\nURIs: http://m.example/debian-security/\nSuites: bookworm-security\nComponents: main\n"
        f"Signed-By: {DEBIAN_KEYS}\n"
    )
    found = find_mirrors(upstream, [], home, sources)
    assert found.bases == {"main": ("http://m.example/debian",), "security": ("http://m.example/debian-security",)}
    assert found.urls("trixie-security", "pool/x.deb") == ("http://m.example/debian-security/pool/x.deb",)


def test_security_is_derived_when_no_source_names_it(upstream: Upstream, home: dict[str, str]) -> None:
    found = find_mirrors(upstream, [], home, one_line("deb http://m.example/debian trixie main"))
    assert found.bases["security"] == ("http://m.example/debian-security",)


def test_one_line_style_with_options_comments_and_deb_src(upstream: Upstream, home: dict[str, str]) -> None:
    sources = one_line(
        "# deb http://off.example/debian bookworm main\n"
        "deb-src http://src.example/debian bookworm main\n"
        f"deb [ arch=amd64 signed-by={DEBIAN_KEYS} ] http://m.example/debian bookworm main contrib # mine\n"
        "deb http://security.example/debian-security bookworm-security main\n"
    )
    found = find_mirrors(upstream, [], home, sources)
    assert found.bases == {
        "main": ("http://m.example/debian",),
        "security": ("http://security.example/debian-security",),
    }


@pytest.mark.parametrize(
    "text",
    [
        "deb http://archive.example/ubuntu noble main universe",
        "deb http://download.example/linux/debian bookworm stable",
        "deb [signed-by=/etc/apt/keyrings/vendor.gpg] http://vendor.example/debian bookworm main",
        "deb http://vendor.example/packages bookworm main",
        "deb cdrom:[Debian]/ bookworm main",
        "deb http://m.example/debian ./",
    ],
    ids=["ubuntu", "other-component", "other-keyring", "other-path", "cdrom", "flat"],
)
def test_other_archives_are_not_taken_for_debian(upstream: Upstream, home: dict[str, str], text: str) -> None:
    with pytest.raises(BedplateError) as caught:
        find_mirrors(upstream, [], home, one_line(text))
    assert "apt sources name none" in str(caught.value)
    assert "--mirror URL" in caught.value.remedy
    assert "settings.toml" in caught.value.remedy


def test_derivative_with_a_debian_source_among_its_own(upstream: Upstream, home: dict[str, str]) -> None:
    sources = [
        *one_line("deb http://derivative.example/apt lorne main"),
        *one_line("deb http://vendor.example/debian bookworm main"),
        *deb822(
            "Types: deb\nURIs: http://m.example/some/path\nSuites: bookworm\nComponents: main non-free\n"
            "Signed-By: /usr/share/keyrings/debian-archive-bookworm-stable.pgp\n"
        ),
    ]
    found = find_mirrors(upstream, [], home, sources)
    assert found.bases["main"] == ("http://m.example/some/path", "http://vendor.example/debian")


def test_disabled_stanza(upstream: Upstream, home: dict[str, str]) -> None:
    text = "Enabled: no\nTypes: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n"
    with pytest.raises(BedplateError):
        find_mirrors(upstream, [], home, deb822(text))


def test_several_types_uris_and_an_inline_key() -> None:
    sources = deb822(
        "Types: deb deb-src\nURIs: http://a.example/debian http://b.example/debian\nSuites: trixie\n"
        "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n xyz\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )
    assert [(source.uri, source.keyring) for source in sources] == [
        ("http://a.example/debian", "inline"),
        ("http://b.example/debian", "inline"),
    ]


def test_files_apt_would_not_read(tmp_path: Path) -> None:
    parts = tmp_path / "etc/apt/sources.list.d"
    parts.mkdir(parents=True)
    (parts / "a.list.disabled").write_text("deb http://off.example/debian trixie main\n")
    (parts / "b.list").write_text("deb http://on.example/debian trixie main\n")
    assert [source.uri for source in read_apt_sources(tmp_path)] == ["http://on.example/debian"]


def test_host_without_apt(tmp_path: Path) -> None:
    assert read_apt_sources(tmp_path) == []


class TestPrecedence:
    """Option, then environment, then settings, then apt; one kind at a time."""

    APT = one_line("deb http://apt.example/debian trixie main")

    @pytest.fixture
    def environ(self, home: dict[str, str]) -> dict[str, str]:
        path = settings_path(home)
        path.parent.mkdir(parents=True)
        path.write_text('[mirrors.debian-13]\nmain = ["http://set.example/debian", "http://set2.example/debian"]\n')
        return {**home, "BEDPLATE_MIRROR": "http://env.example/debian"}

    def test_option_first(self, upstream: Upstream, environ: dict[str, str]) -> None:
        found = find_mirrors(upstream, ["http://opt.example/debian/"], environ, self.APT)
        assert found.bases == {
            "main": ("http://opt.example/debian",),
            "security": ("http://opt.example/debian-security",),
        }
        assert found.origins["main"] == "--mirror"

    def test_environment_second(self, upstream: Upstream, environ: dict[str, str]) -> None:
        assert find_mirrors(upstream, [], environ, self.APT).bases["main"] == ("http://env.example/debian",)

    def test_settings_third(self, upstream: Upstream, environ: dict[str, str]) -> None:
        del environ["BEDPLATE_MIRROR"]
        found = find_mirrors(upstream, [], environ, self.APT)
        assert found.bases["main"] == ("http://set.example/debian", "http://set2.example/debian")
        assert found.origins["main"].endswith("settings.toml")

    def test_kinds_are_decided_one_by_one(self, upstream: Upstream, environ: dict[str, str]) -> None:
        found = find_mirrors(upstream, ["security=file:///srv/security"], environ, self.APT)
        assert found.bases == {"main": ("http://env.example/debian",), "security": ("file:///srv/security",)}

    def test_option_for_another_upstream(self, upstream: Upstream, environ: dict[str, str]) -> None:
        found = find_mirrors(upstream, ["fedora-43:main=http://f.example/"], environ, self.APT)
        assert found.bases["main"] == ("http://env.example/debian",)

    def test_archive_mirrors_come_last(self, upstream: Upstream, environ: dict[str, str]) -> None:
        options = ["archive=http://old.example/a", "archive.security=http://old.example/s"]
        found = find_mirrors(upstream, options, environ, self.APT)
        assert found.urls("trixie", "p") == ("http://env.example/debian/p", "http://old.example/a/p")
        assert found.urls("trixie-security", "p")[-1] == "http://old.example/s/p"
        assert found.index_bases("trixie") == ("http://env.example/debian",)

    def test_archive_mirror_in_settings(self, upstream: Upstream, home: dict[str, str]) -> None:
        path = settings_path(home)
        path.parent.mkdir(parents=True)
        for table in ("mirrors", "mirrors.debian-13"):
            path.write_text(f'[{table}]\nmain = "http://set.example/debian"\narchive.main = "http://old.example/a"\n')
            assert find_mirrors(upstream, [], home, []).archives == {"main": ("http://old.example/a",), "security": ()}


@pytest.mark.parametrize("entry", ["mirror.example/debian", "ftp://m.example/debian", "main="])
def test_entry_that_is_no_mirror(upstream: Upstream, home: dict[str, str], entry: str) -> None:
    with pytest.raises(BadInput, match="is not a mirror"):
        find_mirrors(upstream, [entry], home, [])


def test_unknown_kind(upstream: Upstream, home: dict[str, str]) -> None:
    with pytest.raises(BadInput) as caught:
        find_mirrors(upstream, ["secruity=http://m.example"], home, [])
    assert "main, security" in caught.value.remedy


def test_broken_settings_file(upstream: Upstream, home: dict[str, str]) -> None:
    path = settings_path(home)
    path.parent.mkdir(parents=True)
    path.write_text("[mirrors")
    with pytest.raises(BadInput, match="cannot be read"):
        find_mirrors(upstream, [], home, [])


def test_unknown_suite_is_looked_for_everywhere() -> None:
    mirrors = Mirrors("u", {"main": ("http://a",), "security": ("http://b",)}, {}, {}, {})
    assert mirrors.urls("", "p") == ("http://a/p", "http://b/p")


def test_pinned_keys_of_the_definition_are_there_and_good(upstream: Upstream) -> None:
    for suite in upstream.suites:
        keyring = Keyring.from_files([ROOT / "keys" / name for name in suite.keys], suite.fingerprints)
        assert len(keyring.certs) == len(suite.fingerprints)
        assert not any(cert.is_revoked for cert in keyring.certs)
