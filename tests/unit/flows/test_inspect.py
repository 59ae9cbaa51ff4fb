"""A small image, looked at and checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.images import OS_RELEASE, MadeImage, Recipe, make_image

from bedplate.compose.build import DISK
from bedplate.compose.capabilities import encode
from bedplate.compose.result import Artefact, BuildResult
from bedplate.flows.images import FoundImage
from bedplate.flows.inspect import Verdict, inspect_image, trusted_signers, verify_image
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput, Level
from bedplate.model.owners import OWNERS_NAME, format_owners
from bedplate.toolchain.run import Toolbox
from bedplate.trust.certificates import generate
from bedplate.trust.roles import Kind, role
from bedplate.verify.findings import Demands, Purpose, check_image
from bedplate.verify.inspection import Inspection

DISTRO = Path(__file__).resolve().parents[3] / "distro"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> MadeImage:
    return make_image(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(distro=DISTRO, cache=tmp_path / "cache", keys=tmp_path / "keys", output=tmp_path / "out")


def alone(path: Path) -> FoundImage:
    return FoundImage(path, None, None)


def ids(verdict: Verdict, level: Level = Level.ERROR) -> set[str]:
    return {finding.id for finding in verdict.findings if finding.level is level}


def verify(workspace: Workspace, found: FoundImage) -> Verdict:
    return verify_image(workspace, found, Purpose.DEVELOPMENT)


def test_a_track_without_verity_may_lack_it_but_not_when_a_root_hash_is_named(plain: MadeImage) -> None:
    named = replace(inspect_image(alone(plain.disk)), verity=None)
    assert named.uki is not None
    unnamed = replace(named, uki=replace(named.uki, root_hash=""))

    def found(image: Inspection, is_verified: bool) -> set[str]:
        findings = check_image(image, Demands(limits=None, verity=is_verified))
        return {one.id for one in findings if one.id.startswith(("image.verity", "image.roothash"))}

    assert found(unnamed, False) == set()
    assert found(unnamed, True) == {"image.verity.missing", "image.roothash.missing"}
    assert found(named, False) == {"image.verity.missing"}


def test_the_fields_other_programs_build_on(plain: MadeImage) -> None:
    body = json.loads(json.dumps(inspect_image(alone(plain.disk)).to_json()))
    assert (body["track"], body["version"]) == ("container", "1.0")
    assert body["packages"][0] == {
        "name": "bash",
        "evr": "5.2-1",
        "arch": "x86_64",
        "source": "bash",
        "source_evr": "5.2-1",
    }
    assert body["root_bytes"] == plain.root.stat().st_size
    assert body["root_hash"] == plain.root_hash
    assert body["uki_bytes"] == len(plain.uki)
    assert body["setid"] == []
    assert body["interpreters"] == ["/usr/bin/bash"]
    assert body["os_release"]["PRETTY_NAME"] == 'Bedplate "Linux"'


def test_root_hash_partitions_and_tree_agree(plain: MadeImage) -> None:
    image = inspect_image(alone(plain.disk))
    assert image.verity is not None
    assert image.verity.root_hash == image.verity.stored_root_hash == image.root_hash
    labels = [(part.label, part.empty) for part in image.partitions]
    assert labels == [
        ("esp", False),
        ("container_1.0", False),
        ("container_1.0_verity", False),
        ("_empty", True),
        ("_empty", True),
    ]


def test_pcr_policies_are_for_this_image(plain: MadeImage) -> None:
    image = inspect_image(alone(plain.disk))
    assert image.uki is not None
    assert image.uki.pcr.problem == ""
    assert [phase.signed for phase in image.uki.pcr.phases] == [True, True, True]


def test_a_root_alone_and_a_uki_alone(plain: MadeImage, tmp_path: Path) -> None:
    root = inspect_image(alone(plain.root))
    assert (root.kind, root.version) == ("root", "1.0")
    uki = tmp_path / "uki.efi"
    uki.write_bytes(plain.uki)
    looked = inspect_image(alone(uki))
    assert (looked.kind, looked.root_hash, looked.root) == ("uki", plain.root_hash, None)


def test_an_unsigned_image_fails(plain: MadeImage, workspace: Workspace) -> None:
    verdict = verify(workspace, alone(plain.disk))
    assert not verdict.good
    assert ids(verdict) == {"image.signature.missing"}


Change = Callable[[Recipe], None]


def _setid(recipe: Recipe) -> None:
    recipe.modes["/usr/bin/tool"] = 0o4755


def _capability(recipe: Recipe) -> None:
    recipe.xattrs["/usr/bin/tool"] = (("security.capability", encode("cap_net_raw=ep")),)


def _world_writable(recipe: Recipe) -> None:
    recipe.modes["/usr/lib/os-release"] = 0o666


def _interpreter(recipe: Recipe) -> None:
    recipe.files["/usr/bin/innocent"] = recipe.files["/usr/bin/bash"] + b"PYTHONHOME PYTHONSTARTUP PYTHONHASHSEED"
    recipe.modes["/usr/bin/innocent"] = 0o755


def _other_release(recipe: Recipe) -> None:
    recipe.os_release = OS_RELEASE.replace(b"IMAGE_VERSION=1.0", b"IMAGE_VERSION=2.0")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_setid, "image.setid.unlisted"),
        (_capability, "image.capabilities.unlisted"),
        (_world_writable, "image.world-writable.unlisted"),
        (_interpreter, "image.interpreters.unlisted"),
        (_other_release, "image.osrelease.differs"),
    ],
)
def test_what_the_track_does_not_allow(tmp_path: Path, workspace: Workspace, change: Change, expected: str) -> None:
    recipe = Recipe()
    change(recipe)
    verdict = verify(workspace, alone(make_image(tmp_path / "image", recipe).disk))
    assert ids(verdict) == {"image.signature.missing", expected}


def test_a_track_the_definition_does_not_have_is_not_a_failure(tmp_path: Path, workspace: Workspace) -> None:
    recipe = Recipe(os_release=OS_RELEASE.replace(b"=container", b"=other"))
    recipe.files["/usr/lib/os-release"] = recipe.os_release
    verdict = verify(workspace, alone(make_image(tmp_path / "image", recipe).disk))
    assert "image.limits.unknown" in ids(verdict, Level.UNKNOWN)


def _built(image: MadeImage, folder: Path, **changes: object) -> FoundImage:
    folder.mkdir()
    shutil.copyfile(image.disk, folder / DISK)
    values: dict[str, object] = {
        "directory": folder,
        "identity": "x",
        "track": "container",
        "version": "1.0",
        "artefacts": (),
        "root_hash": image.root_hash,
        "command_line": "",
        "pcr11": {},
        "root_bytes": 0,
        "uki_bytes": 0,
        "package_count": 2,
        "layout": (),
        **changes,
    }
    return FoundImage(folder / DISK, BuildResult(**values), None)  # type: ignore[arg-type]


def test_sizes_by_owner_and_unowned_paths(plain: MadeImage, tmp_path: Path, workspace: Workspace) -> None:
    found = _built(plain, tmp_path / "build")
    image = inspect_image(found)
    assert image.root is not None
    assert image.root.contents.unowned is None
    paths = ["/usr/bin/bash", "/usr/bin/tool"]
    (tmp_path / "build" / OWNERS_NAME).write_bytes(format_owners(dict.fromkeys(paths, "package:bash")))
    verdict = verify(workspace, found)
    assert verdict.inspection.root is not None
    owners = verdict.inspection.root.contents.owners
    assert owners is not None
    assert [(row.owner, row.paths) for row in owners] == [("package:bash", 2), ("package:filesystem", 1)]
    assert "image.tree.unowned" in ids(verdict)


def test_the_record_beside_the_image_is_held_against_it(plain: MadeImage, tmp_path: Path, workspace: Workspace) -> None:
    found = _built(plain, tmp_path / "build", version="9", artefacts=(Artefact(DISK, "0" * 64, 1),))
    assert {"image.manifest.differs", "image.manifest.artefact"} <= ids(verify(workspace, found))


def test_a_lock_of_other_packages(plain: MadeImage, tmp_path: Path, workspace: Workspace) -> None:
    lock = tmp_path / "lock.toml"
    entries = [("bash", "5.3-1"), ("filesystem", "1.0-0"), ("hidden", "1-1"), ("systemd-boot-efi", "1-1")]
    text = 'version = 1\ntrack = "container"\ndefinition = "x"\n'
    for name, evr in entries:
        text += (
            f'[[package]]\nname = "{name}"\nevr = "{evr}"\narch = "noarch"\nsource = "{name} {evr}"\nformat = "own"\n'
        )
    lock.write_text(text)
    verdict = verify(workspace, FoundImage(plain.disk, None, lock))
    causes = [finding.cause for finding in verdict.findings if finding.id == "image.packages.lock"]
    assert len(causes) == 2
    assert any("5.3-1" in cause for cause in causes)
    assert any("hidden" in cause for cause in causes)


@pytest.mark.tools
class TestSigned:
    @pytest.fixture
    def keys(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("keys")
        for kind in Kind:
            private, certificate = generate(role("boot"), kind, "Test")
            (folder / f"{kind.value}.key").write_bytes(private)
            (folder / f"{kind.value}.pem").write_bytes(certificate)
        return folder

    @staticmethod
    def signed(folder: Path, keys: Path, kind: Kind, toolbox: Toolbox) -> MadeImage:
        folder.mkdir()

        def sign(program: bytes) -> bytes:
            plain, signed = folder / "plain.efi", folder / "signed.efi"
            plain.write_bytes(program)
            key, certificate = keys / f"{kind.value}.key", keys / f"{kind.value}.pem"
            toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", signed, plain)
            return signed.read_bytes()

        return make_image(folder / "image", Recipe(sign=sign))

    def test_a_development_image_is_no_release(
        self, tmp_path: Path, workspace: Workspace, toolbox: Toolbox, keys: Path
    ) -> None:
        found = alone(self.signed(tmp_path / "signed", keys, Kind.DEVELOPMENT, toolbox).disk)
        signers = trusted_signers(workspace, [keys / f"{Kind.DEVELOPMENT.value}.pem"])
        verdict = verify_image(workspace, found, Purpose.DEVELOPMENT, signers)
        assert verdict.good
        assert "image.signature.development" in ids(verdict, Level.WARNING)
        assert verdict.inspection.development
        as_release = verify_image(workspace, found, Purpose.RELEASE, signers)
        assert ids(as_release) == {"image.signature.development"}

    def test_a_release_by_a_known_key(self, tmp_path: Path, workspace: Workspace, toolbox: Toolbox, keys: Path) -> None:
        found = alone(self.signed(tmp_path / "signed", keys, Kind.RELEASE, toolbox).disk)
        signers = trusted_signers(workspace, [keys / f"{Kind.RELEASE.value}.pem"])
        assert verify_image(workspace, found, Purpose.RELEASE, signers).good
        unknown = verify_image(workspace, found, Purpose.RELEASE)
        assert "image.signature.signer" in ids(unknown, Level.UNKNOWN)

    def test_a_foreign_key(self, tmp_path: Path, workspace: Workspace, toolbox: Toolbox, keys: Path) -> None:
        found = alone(self.signed(tmp_path / "signed", keys, Kind.RELEASE, toolbox).disk)
        signers = trusted_signers(workspace, [keys / f"{Kind.DEVELOPMENT.value}.pem"])
        assert ids(verify_image(workspace, found, Purpose.RELEASE, signers)) == {"image.signature.foreign"}


def test_signers_are_the_keys_in_the_store_unless_named(workspace: Workspace, tmp_path: Path) -> None:
    assert trusted_signers(workspace, []) is None
    bad = tmp_path / "bad.pem"
    bad.write_text("no")
    with pytest.raises(BadInput, match="not a certificate"):
        trusted_signers(workspace, [bad])
