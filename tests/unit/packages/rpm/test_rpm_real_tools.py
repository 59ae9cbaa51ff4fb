"""What rpm 4.20 itself makes of our packages: checks, queries, installs, verifies, and builds the same."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pysequoia
import pytest
import zstandard

from bedplate.model.evr import Evr
from bedplate.model.package import FileEntry, FileFlag, FileKind, Nevra, Script, SourceRef
from bedplate.packages.rpm import assemble
from bedplate.packages.rpm.container import open_container
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.sign import sign_rpm, sign_rpms
from bedplate.packages.rpm.spec import FileTrigger
from bedplate.packages.rpm.tags import Tag
from bedplate.packages.rpm.writer import write_rpm
from bedplate.packages.rpmdb import make_rpmdb
from bedplate.toolchain.run import Toolbox
from support.packages import CONTENT, DEMO_FILES, TIME, TestKey, contents_of, demo_spec, regular, write_demo
from support.rpmbuild import build

pytestmark = pytest.mark.tools

_NO_SYSUSERS = ("--define", "__systemd_sysusers %{nil}")


def query(toolbox: Toolbox, package: Path, *options: str) -> list[str]:
    """Lines of ``rpm -qp``."""
    return toolbox.run("rpm", "-qp", "--nosignature", *options, package).text.splitlines()


def import_key(toolbox: Toolbox, key: TestKey, database: Path) -> None:
    """Trust ``key`` in an rpm database."""
    armoured = database.with_suffix(".asc")
    armoured.write_text(str(pysequoia.armor(key.certificate, pysequoia.ArmorKind.PublicKey)))
    toolbox.run("rpmkeys", "--dbpath", database, "--import", armoured)


@pytest.mark.parametrize("suite", [pysequoia.CipherSuite.Cv25519, pysequoia.CipherSuite.RSA2k], ids=str)
def test_rpmkeys_accepts_our_signatures(toolbox: Toolbox, tmp_path: Path, suite: pysequoia.CipherSuite) -> None:
    key = TestKey.generate(suite)
    import_key(toolbox, key, tmp_path / "db")
    plain = [write_demo(tmp_path / f"{number}.rpm", summary=f"Number {number}").path for number in range(3)]
    signed = sign_rpms([(path, path.with_suffix(".signed.rpm")) for path in plain], key)
    for one in signed:
        assert hashlib.sha256(one.path.read_bytes()).hexdigest() == one.sha256
        text = toolbox.run("rpmkeys", "--dbpath", tmp_path / "db", "-Kv", one.path).text
        assert "Signature, key ID" in text
        assert {line.rpartition(" ")[2] for line in text.splitlines()[1:]} == {"OK"}
        assert "Payload SHA256 digest: OK" in text
    strict = ("--define", "_pkgverify_level all")
    toolbox.run("rpmkeys", "--dbpath", tmp_path / "db", *strict, "-K", *(one.path for one in signed))
    refused = toolbox.run("rpmkeys", "--dbpath", tmp_path / "db", *strict, "-K", *plain, ok=(1, 2, 3))
    assert "NOT OK" in refused.text


def test_rpmkeys_refuses_a_foreign_key_and_a_changed_header(toolbox: Toolbox, tmp_path: Path) -> None:
    import_key(toolbox, TestKey.generate(), tmp_path / "db")
    signed = sign_rpm(write_demo(tmp_path / "demo.rpm").path, tmp_path / "signed.rpm", TestKey.generate())
    foreign = toolbox.run("rpmkeys", "--dbpath", tmp_path / "db", "-Kv", signed.path, ok=(1,))
    assert "NOKEY" in foreign.text
    data = bytearray(signed.path.read_bytes())
    data[open_container(signed.path).payload_offset - 900] ^= 1
    signed.path.write_bytes(data)
    assert toolbox.run("rpmkeys", "--dbpath", tmp_path / "db", "-K", signed.path, ok=(1,)).code == 1


def test_signing_twice_leaves_one_signature(toolbox: Toolbox, tmp_path: Path) -> None:
    plain = write_demo(tmp_path / "demo.rpm")
    first, second = TestKey.generate(), TestKey.generate()
    import_key(toolbox, second, tmp_path / "db")
    sign_rpm(plain.path, tmp_path / "one.rpm", first)
    sign_rpm(tmp_path / "one.rpm", tmp_path / "one.rpm", second)
    text = toolbox.run("rpmkeys", "--dbpath", tmp_path / "db", "-Kv", tmp_path / "one.rpm").text
    assert text.count("Signature") == 1
    assert RpmPackage.open(tmp_path / "one.rpm").digest == plain.sha256


def test_queries_give_what_the_spec_says(toolbox: Toolbox, tmp_path: Path) -> None:
    package = write_demo(
        tmp_path / "demo.rpm",
        scriptlets=(Script("%post", "/bin/sh", "echo hello"),),
        file_triggers=(FileTrigger("%transfiletriggerin", "/bin/sh", "ldconfig", ("/usr/lib",)),),
    ).path
    requires = query(toolbox, package, "--requires")
    assert {"(foo >= 1-0 or bar)", "libc6 >= 2.38-0", "user(_demo)", "group(_demo)", "/bin/sh"} <= set(requires)
    assert "rpmlib(PayloadIsZstd) <= 5.4.18-1" in requires
    assert "bedplate-source(demo-source) = 4:1.2-3" in query(toolbox, package, "--provides")
    assert query(toolbox, package, "-l") == sorted(entry.path for entry in DEMO_FILES)
    assert query(toolbox, package, "-c") == ["/etc/demo.conf"]
    assert query(toolbox, package, "-d") == ["/usr/share/doc/demo/README"]
    assert query(toolbox, package, "--qf", "%{NEVRA} %{SOURCERPM} %{BUILDTIME} %{BUILDHOST}") == [
        f"demo-2:1.2~rc1-3.x86_64 demo-source-1.2-3.src.rpm {TIME} bedplate"
    ]
    assert query(toolbox, package, "--filecaps")[2].split("\t") == ["/usr/bin/demo-elf", "cap_net_admin=ep"]
    assert "echo hello" in query(toolbox, package, "--scripts")
    assert "ldconfig" in query(toolbox, package, "--filetriggers")
    assert "/usr/bin/demo-elf 2" in query(toolbox, package, "--qf", "[%{FILENAMES} %{FILECOLORS}\n]")


@pytest.mark.parametrize("large_from", [assemble.LARGE_FILE, 100], ids=["newc", "large-files"])
def test_install_into_a_root_and_verify(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_from: int
) -> None:
    monkeypatch.setattr(assemble, "LARGE_FILE", large_from)
    files = tuple(replace(entry, capabilities="", group="root") for entry in DEMO_FILES)
    package = write_demo(tmp_path / "demo.rpm", files=files).path
    root, database = tmp_path / "root", tmp_path / "db"
    root.mkdir()
    toolbox.run("rpmdb", "--dbpath", database, "--initdb")
    # Relocation needs no chroot, so any user can do it; owners are then the user's, and not looked at.
    done = toolbox.run(
        "rpm", "--dbpath", database, *_NO_SYSUSERS, "-i", "--nodeps", "--noscripts", "--badreloc", "--relocate",
        f"/={root}", package,
    )  # fmt: skip
    assert done.stderr == ""
    for path, data in CONTENT.items():
        assert (root / path[1:]).read_bytes() == data
    assert (root / "usr/bin/demo").stat().st_ino == (root / "usr/bin/demo-twin").stat().st_ino
    assert (root / "usr/bin/demo-elf").stat().st_mode & 0o7777 == 0o4754
    assert (root / "usr/bin/demo-link").readlink() == Path("demo")
    assert not (root / "var/log/demo.log").exists()
    assert (root / "etc/demo.conf").stat().st_mtime == TIME
    verify = ("rpm", "--dbpath", database, "-Va", "--nodeps", "--nouser", "--nogroup")
    assert toolbox.run(*verify).text == ""
    (root / "usr/bin/demo-elf").write_bytes(b"changed")
    assert "/usr/bin/demo-elf" in toolbox.run(*verify, ok=(1,)).text


def test_database_is_the_same_each_time(toolbox: Toolbox, tmp_path: Path) -> None:
    packages = [
        write_demo(tmp_path / f"{name}.rpm", nevra=Nevra(name, Evr(0, "1", "1"), "x86_64")).path
        for name in ("zeta", "alpha", "mid")
    ]
    first = make_rpmdb(toolbox, packages)
    assert make_rpmdb(toolbox, packages[::-1]) == first
    database = tmp_path / "db"
    database.mkdir()
    (database / "rpmdb.sqlite").write_bytes(first)
    listed = toolbox.run("rpm", "--dbpath", database, "-qa", "--qf", "%{NAME} %{INSTALLTIME}\n").text
    times = dict(line.split() for line in listed.splitlines())
    assert sorted(times) == ["alpha", "mid", "zeta"]
    # rpm counts on from SOURCE_DATE_EPOCH, one second for each package.
    assert sorted(int(time) - toolbox.epoch for time in times.values()) == [0, 1, 2]


def test_what_is_left_out_of_an_image_is_not_missed(toolbox: Toolbox, tmp_path: Path) -> None:
    package = write_demo(tmp_path / "demo.rpm").path
    first = make_rpmdb(toolbox, [package], ["/usr/bin/demo", "/etc/demo.conf"])
    assert make_rpmdb(toolbox, [package], ["/etc/demo.conf", "/usr/bin/demo"]) == first
    database = tmp_path / "db"
    database.mkdir()
    (database / "rpmdb.sqlite").write_bytes(first)
    states = toolbox.run("rpm", "--dbpath", database, "-q", "--state", "demo").text.splitlines()
    left_out = {line.split()[-1] for line in states if line.startswith("not installed")}
    assert left_out == {"/usr/bin/demo", "/etc/demo.conf"}
    assert len(states) > len(left_out)


# --- the same package by rpmbuild -------------------------------------------------------------------------------------

_SAMPLES: dict[str, tuple[str, ...]] = {
    "demo": (),
    "mount": ("usr/bin/mount", "usr/bin/umount", "usr/share/man/man8/*mount*"),
    "passwd": ("usr/bin/passwd", "usr/bin/chage", "usr/bin/chsh", "usr/bin/expiry", "etc/default/*"),
    "libsystemd": ("usr/lib/x86_64-linux-gnu/libsystemd*", "usr/lib/x86_64-linux-gnu/libudev*"),
    "kmod": ("usr/bin/kmod", "usr/bin/lsmod", "usr/sbin/*mod*"),
    "dbus": ("usr/bin/dbus*", "usr/share/dbus-1", "usr/share/dbus-1/*", "usr/lib/sysusers.d/*"),
    "coreutils": ("usr/bin/ls", "usr/bin/cp", "usr/bin/mv"),
}
_SAME_TAGS = (
    Tag.NAME, Tag.VERSION, Tag.RELEASE, Tag.EPOCH, Tag.SUMMARY, Tag.DESCRIPTION, Tag.LICENSE, Tag.GROUP, Tag.OS,
    Tag.ARCH, Tag.SIZE, Tag.SOURCE_RPM, Tag.BUILD_TIME, Tag.BUILD_HOST, Tag.RPM_VERSION, Tag.ENCODING,
    Tag.FILE_SIZES, Tag.FILE_MODES, Tag.FILE_RDEVS, Tag.FILE_MTIMES, Tag.FILE_DIGESTS, Tag.FILE_LINKTOS,
    Tag.FILE_FLAGS, Tag.FILE_USERNAMES, Tag.FILE_GROUPNAMES, Tag.FILE_VERIFY_FLAGS, Tag.FILE_DEVICES, Tag.FILE_INODES,
    Tag.FILE_LANGS, Tag.DIR_INDEXES, Tag.BASENAMES, Tag.DIRNAMES, Tag.FILE_COLORS, Tag.FILE_CAPS,
    Tag.FILE_DIGEST_ALGORITHM, Tag.PAYLOAD_FORMAT, Tag.PAYLOAD_COMPRESSOR, Tag.PAYLOAD_FLAGS,
    Tag.REQUIRE_NAME, Tag.REQUIRE_FLAGS, Tag.REQUIRE_VERSION, Tag.CONFLICT_NAME, Tag.CONFLICT_FLAGS,
    Tag.CONFLICT_VERSION, Tag.OBSOLETE_NAME, Tag.RECOMMEND_NAME, Tag.SUGGEST_NAME, Tag.PAYLOAD_DIGEST_ALGORITHM,
)  # fmt: skip


def _sample(root: Path, patterns: tuple[str, ...]) -> tuple[list[FileEntry], dict[str, bytes]]:
    entries: list[FileEntry] = []
    contents: dict[str, bytes] = {}
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        name = "/" + str(path.relative_to(root))
        mode = path.lstat().st_mode & 0o7777
        flags = FileFlag.CONFIG | FileFlag.NOREPLACE if name.startswith("/etc/") else FileFlag.NONE
        flags |= FileFlag.DOC if name.startswith(("/usr/share/doc/", "/usr/share/man/")) else FileFlag.NONE
        if path.is_symlink():
            target = str(path.readlink())
            entries.append(FileEntry(name, FileKind.SYMLINK, 0o777, mtime=TIME, target=target, flags=flags))
        elif path.is_dir():
            entries.append(FileEntry(name, FileKind.DIRECTORY, mode, mtime=TIME))
        else:
            contents[name] = path.read_bytes()
            group = "shadow" if mode & 0o2000 else "root"
            size = len(contents[name])
            entries.append(FileEntry(name, FileKind.FILE, mode, "root", group, TIME, size, flags=flags))
    return entries, contents


def _with_links(entries: list[FileEntry], contents: dict[str, bytes]) -> list[FileEntry]:
    """Another name for the first two files, so that link groups and single files mix."""
    result = list(entries)
    for entry in [entry for entry in entries if entry.kind is FileKind.FILE and not entry.flags][:2]:
        first = replace(entry, hardlink=entry.path)
        result[result.index(entry)] = first
        for suffix in ("-1", "-2"):
            twin = replace(first, path=entry.path + suffix)
            contents[twin.path] = contents[entry.path]
            result.append(twin)
    return result


def _members(path: Path) -> list[tuple[bytes, tuple[int, ...], bytes]]:
    """Name, header fields and content of each payload member.

    Without what rpmbuild takes from the machine it runs on: its user and group ids, and set-id bits, which it leaves
    out of the payload (never of the header) when the machine lacks the owner.
    """
    container = open_container(path)
    with path.open("rb") as stream:
        stream.seek(container.payload_offset)
        data = zstandard.ZstdDecompressor().stream_reader(stream).read()
    position, members = 0, []
    while position < len(data):
        fields = [int(data[position + 6 + 8 * number :][:8], 16) for number in range(13)]
        name = data[position + 110 : position + 109 + fields[11]]
        start = position + (110 + fields[11] + 3 & ~3)
        end = start + fields[6]
        members.append((name, (fields[0], fields[1] & ~0o6000, *fields[4:]), data[start:end]))
        position = end + 3 & ~3
    return members


@pytest.mark.parametrize("name", sorted(_SAMPLES))
def test_rpmbuild_makes_the_same_package(toolbox: Toolbox, tmp_path: Path, name: str) -> None:
    entries, contents = _sample(toolbox.tree.root, _SAMPLES[name])
    if name == "demo":
        # The owner of a file is also in a membership line of the package's own sysusers.d file.
        kept = [entry for entry in DEMO_FILES if not entry.flags & FileFlag.GHOST]
        entries = [replace(entry, user="root" if entry.target else "_demo") for entry in kept]
        contents = {
            **CONTENT,
            "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nbin:x:2:2::/bin:/sbin/nologin\n",
            "/etc/group": b"root:x:0:\naudio:x:29:bin\n",
        }
        entries += [regular(path, contents[path]) for path in ("/etc/passwd", "/etc/group")]
    assert entries
    if name in ("coreutils", "mount"):
        entries = _with_links(entries, contents)
    if name == "dbus":
        entries.append(FileEntry("/var/lib/dbus-ghost", FileKind.DIRECTORY, 0o755, mtime=TIME, flags=FileFlag.GHOST))
        first = next(entry for entry in entries if entry.kind is FileKind.FILE)
        entries[entries.index(first)] = replace(first, capabilities="cap_net_bind_service=ep", user="messagebus")
    spec = demo_spec(
        nevra=Nevra(name, Evr(1, "2.3~rc1", "4"), "x86_64"),
        source=SourceRef(name, Evr(1, "2.3~rc1", "4")),
        description="Two\nlines.",
        url="",
        build_time=toolbox.epoch,
        files=tuple(entries),
    )
    ours = write_rpm(spec, contents_of(contents), tmp_path / "ours.rpm").path
    theirs = build(toolbox, spec, contents, tmp_path / "build")
    one, two = open_container(ours).header, open_container(theirs).header
    for tag in _SAME_TAGS:
        assert (tag, one.entry(tag) if tag in one else None) == (tag, two.entry(tag) if tag in two else None)
    provides = [
        [line for line in query(toolbox, path, "--provides") if not line.startswith("bedplate-source(")]
        for path in (ours, theirs)
    ]
    assert provides[0] == provides[1]
    assert query(toolbox, ours, "--dump") == query(toolbox, theirs, "--dump")
    assert query(toolbox, ours, "--requires") == query(toolbox, theirs, "--requires")
    assert _members(ours) == _members(theirs)
    foreign = RpmPackage.open(theirs)
    assert foreign.files == RpmPackage.open(ours).files
    assert {entry.path: data for entry, data in foreign.read(lambda path: True)} == contents
