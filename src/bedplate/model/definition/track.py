"""``distro/tracks/*.toml``: what one image is made of and which limits it must keep."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from bedplate.model.definition.base import Definition


class Slot(Definition):
    """Sizes of the disk's partitions, in MiB. Those of a verified root cannot grow once nodes are installed; a writable
    root has what it needs, or ``root_mib`` where that is more, and grows on the first boot."""

    esp_mib: int
    root_mib: int = 0
    verity_mib: int = 0


class Root(Definition):
    """The root file system: ``erofs`` is read-only, verified and kept in two slots; ``ext4`` is writable and alone.

    ``compression`` and ``cluster_bytes`` are of erofs, ``free_mib`` (room left in the file system as made) of ext4.
    ``times`` are those of files: one for the whole image, or what the packages say, which their database compares.
    ``encryption`` offered means that a machine can have its ext4 root encrypted on the first boot: the partition has
    room for the header, the initrd the programs. ``state`` kept means that a machine has files of its own beside its
    erofs root: the initrd makes and mounts ``/var``, lays what was changed over ``/etc``, and mounts the places that
    ``/usr/lib/bedplate/state`` lists.
    """

    filesystem: Literal["erofs", "ext4"] = "erofs"
    compression: str = "zstd,3"
    cluster_bytes: int = 65536
    verity: bool = True
    free_mib: int = 256
    times: Literal["image", "package"] = "image"
    encryption: Literal["none", "offered"] = "none"
    state: Literal["none", "kept"] = "none"

    @model_validator(mode="after")
    def _verity_fits(self) -> Self:
        if self.verity != (self.filesystem == "erofs"):
            raise ValueError("erofs is verified, ext4 is not: `verity` must be true for erofs and false for ext4")
        if self.encryption == "offered" and self.filesystem != "ext4":
            raise ValueError("only an ext4 root can be encrypted: `encryption` of erofs must be none")
        if self.state == "kept" and self.filesystem != "erofs":
            raise ValueError("an ext4 root holds the machine's own files itself: `state` of ext4 must be none")
        return self


class Profile(Definition):
    """A further way to start a kernel: an entry of its own in the boot menu, out of the same signed image.

    ``command_line`` stands behind the kernel's options and those that name the root; of two options that say the same
    thing the later one counts. The entry is called ``FILE.efi@ID`` once its image was found good. While the image is on
    trial only the menu leads to it: systemd-boot 257 then calls all entries ``FILE.efi``, which means the first.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    title: str = Field(pattern=r"^[\w ,.()-]+$", description="What the boot menu shows beside the name of the image")
    command_line: list[str]


class Kernel(Definition):
    """The kernel, its command line and its modules.

    ``modules`` are module names or glob patterns below ``/usr/lib/modules/*/kernel``; everything else is left out of
    the image, but dependencies of a listed module are kept. ``initrd_modules`` are loaded by the initrd, in order,
    ``encryption_modules`` only where the root is encrypted.
    ``module_files`` says whether the listed modules lie in the image unpacked, or all of them as their package ships
    them, which is what a package manager on the machine expects. ``profiles`` are further entries of the boot menu.

    With a ``flavour`` the signed image is a package, ``ID-TRACK-kernel-FLAVOUR``: the next one is installed beside it.
    ``revision`` is a part of those packages' release: it counts up when the images change although the kernel does not.
    """

    package: str
    command_line: list[str]
    modules: list[str] = []
    initrd_modules: list[str]
    encryption_modules: list[str] = []
    module_files: Literal["plain", "shipped"] = "plain"
    profiles: list[Profile] = []
    flavour: str = Field(default="", pattern=r"^([a-z][a-z0-9-]*)?$")
    revision: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _shipped_are_all(self) -> Self:
        if self.module_files == "shipped" and self.modules:
            raise ValueError("shipped module files are all there: `modules` must be empty")
        return self

    @model_validator(mode="after")
    def _names_are_their_own(self) -> Self:
        names = ["main", *(one.id for one in self.profiles)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"profiles called {', '.join(twice)} are there twice; the first entry is called main")
        return self


class Limits(Definition):
    """What the finished image may hold. Anything found and not listed here stops the build."""

    root_mib: int
    uki_mib: int
    packages: int
    setid: list[str] = []
    capabilities: list[str] = []
    world_writable: list[str] = []
    interpreters: list[str] = []
    listening: list[str] = []


class Track(Definition):
    """One image."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    title: str
    extends: str = Field(
        default="",
        description="Another track this one is a variant of: lists add to its lists, tables are merged, anything else "
        "takes the place of its own. A variant is built when it is named",
    )
    without: dict[str, list[str]] = Field(
        default={},
        description="Of a variant: key (of a table in a table: `limits.setid`) -> what it does not take over from that "
        "list; tables are called by their id",
    )
    packages: list[str] = Field(description="What is asked for; the lock holds what follows from it")
    boot_packages: list[str] = Field(
        default=[],
        description="Locked like the others, but only parts of them go into initrd, UKI or ESP: nothing into the root",
    )
    exclude: list[str] = Field(default=[], description="Packages that must never be in this image")
    files: list[str] = Field(
        default=[], description="Sets below distro/files, later ones may not override earlier ones"
    )
    drop: list[str] = Field(default=[], description="Glob patterns of package paths left out of the image")
    masked_units: list[str] = []
    package_database: Literal["none", "rpm"] = Field(
        default="none", description="Whether the image holds a database of its packages for a package manager"
    )
    proofs: list[Literal["verity", "pcr11", "container", "selinux"]] = Field(
        default=["verity", "pcr11", "container"],
        description="What a booted image must prove, beside that it runs without a failed unit under Secure Boot",
    )
    root: Root = Root()
    kernel: Kernel
    slots: Slot
    limits: Limits


class ToolSet(Definition):
    """One tools tree: the packages asked for, and which way to go where upstream offers a choice."""

    packages: list[str]
    exclude: list[str] = []
    prefer: list[str] = []


class Tools(Definition):
    """``distro/tools.toml``: the sets of external programs, each locked and unpacked as a tree of its own."""

    sets: dict[str, ToolSet]
