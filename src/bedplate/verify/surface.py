"""What two images expose, side by side: figures, lists, and the settings that harden them. Pure.

Source: sysctl.d(5), systemd.mount(5), fstab(5), selinux_config(5).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_SYSCTL_FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
_UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
MASKED = "/dev/null"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of an image by its path: its text, and the target of a link (empty for a file)."""

    path: str
    text: str = ""
    target: str = ""


@dataclass(frozen=True)
class Surface:
    """What one image exposes. Sizes are in bytes; lists are sorted. ``listening`` is what listened in a boot when
    ``booted``, else what the track allows."""

    track: str
    version: str
    image: str
    sizes: Mapping[str, int]
    counts: Mapping[str, int]
    packages: Mapping[str, str]
    setid: tuple[str, ...]
    capabilities: tuple[str, ...]
    interpreters: tuple[str, ...]
    listening: tuple[str, ...]
    booted: bool
    kernel_options: tuple[str, ...]
    sysctl: Mapping[str, str]
    mounts: Mapping[str, str]
    lsm: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of both images."""

    name: str
    first: int
    second: int
    unit: str = ""

    @property
    def percent(self) -> float | None:
        """The first as percent of the second, None where that is zero."""
        return round(100 * self.first / self.second, 1) if self.second else None


@dataclass(frozen=True)
class ListComparison:
    """The items of one list: in the first image only, in the second only, in both."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    both: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting and its value in each image, empty where it is not set."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """Two images side by side."""

    first: Surface
    second: Surface
    figures: tuple[Figure, ...]
    lists: tuple[ListComparison, ...]
    settings: Mapping[str, tuple[Setting, ...]]

    def to_json(self) -> dict[str, Any]:
        """Plain data of everything."""
        return {
            "first": asdict(self.first),
            "second": asdict(self.second),
            "figures": [{**asdict(one), "percent": one.percent} for one in self.figures],
            "lists": {one.name: {k: list(v) for k, v in asdict(one).items() if k != "name"} for one in self.lists},
            "settings": {name: [asdict(one) for one in rows] for name, rows in self.settings.items()},
        }


def compare_surfaces(first: Surface, second: Surface) -> Comparison:
    """Both images, part by part."""
    figures = [Figure("packages", len(first.packages), len(second.packages))]
    figures += [Figure(name, first.counts[name], second.counts.get(name, 0)) for name in first.counts]
    figures += [
        Figure(name, len(getattr(first, attribute)), len(getattr(second, attribute)))
        for name, attribute in (
            ("set-id files", "setid"),
            ("files with capabilities", "capabilities"),
            ("interpreters", "interpreters"),
            ("listening sockets", "listening"),
            ("kernel options", "kernel_options"),
            ("sysctl settings", "sysctl"),
        )
    ]
    figures += [Figure(name, size, second.sizes.get(name, 0), "bytes") for name, size in first.sizes.items()]
    lists = (
        _lists("packages", first.packages, second.packages),
        _lists("set-id files", first.setid, second.setid),
        _lists("capabilities", first.capabilities, second.capabilities),
        _lists("interpreters", first.interpreters, second.interpreters),
        _lists("listening", first.listening, second.listening),
        _lists("kernel options", first.kernel_options, second.kernel_options),
        _lists("protection", first.lsm, second.lsm),
    )
    settings = {
        "sysctl": _settings(first.sysctl, second.sysctl),
        "mounts": _settings(first.mounts, second.mounts),
    }
    return Comparison(first, second, tuple(figures), lists, settings)


def _lists(name: str, first: Iterable[str], second: Iterable[str]) -> ListComparison:
    one, two = set(first), set(second)
    return ListComparison(name, tuple(sorted(one - two)), tuple(sorted(two - one)), tuple(sorted(one & two)))


def _settings(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[Setting, ...]:
    return tuple(Setting(name, first.get(name, ""), second.get(name, "")) for name in sorted({*first, *second}))


def sysctl_settings(files: Iterable[ConfigFile]) -> dict[str, str]:
    """The kernel settings a boot makes (sysctl.d(5)): files by name, the last one wins; a file hides one of its name in
    a later folder."""
    chosen: dict[str, ConfigFile] = {}
    by_folder: dict[str, list[ConfigFile]] = {}
    for file in files:
        by_folder.setdefault(posixpath.dirname(file.path), []).append(file)
    for folder in _SYSCTL_FOLDERS:
        for file in by_folder.get(folder, ()):
            if file.path.endswith(".conf"):
                chosen.setdefault(posixpath.basename(file.path), file)
    found: dict[str, str] = {}
    for _, file in sorted(chosen.items()):
        for line in file.text.splitlines():
            name, equals, value = line.strip().lstrip("-").partition("=")
            if equals and not line.strip().startswith(("#", ";")):
                found[_sysctl_name(name.strip())] = " ".join(value.split())
    return dict(sorted(found.items()))


def _sysctl_name(name: str) -> str:
    """The form with dots: with a slash as the first separator, slashes and dots change places."""
    first = next((char for char in name if char in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def mount_settings(files: Iterable[ConfigFile]) -> dict[str, str]:
    """Mount points with their options: those of mount units that are not masked, with their drop-ins, and of fstab."""
    by_path = {file.path: file for file in files}
    names = {
        posixpath.basename(path)
        for path in by_path
        if path.endswith(".mount") and posixpath.dirname(path) in _UNIT_FOLDERS
    }
    found: dict[str, str] = {}
    for name in sorted(names):
        unit = next((by_path[f"{f}/{name}"] for f in _UNIT_FOLDERS if f"{f}/{name}" in by_path), None)
        if unit is None or unit.target == MASKED:
            continue
        drops = sorted(
            (file for path, file in by_path.items() if posixpath.basename(posixpath.dirname(path)) == f"{name}.d"),
            key=lambda file: posixpath.basename(file.path),
        )
        fields = _fields("\n".join([unit.text, *(drop.text for drop in drops)]))
        if fields.get("Where"):
            found[fields["Where"]] = ",".join(sorted(o for o in fields.get("Options", "").split(",") if o))
    table = by_path.get("/etc/fstab", ConfigFile("/etc/fstab")).text
    for line in table.splitlines():
        words = line.split()
        if len(words) >= 4 and not words[0].startswith("#") and words[1].startswith("/"):
            found[words[1]] = ",".join(sorted(words[3].split(",")))
    return found


def _fields(text: str) -> dict[str, str]:
    """The settings of a unit's [Mount] section, the last of a name."""
    section, found = "", {}
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line
        elif section == "[Mount]" and not line.startswith(("#", ";")):
            name, equals, value = line.partition("=")
            if equals:
                found[name.strip()] = value.strip()
    return found


def security_modules(command_line: Sequence[str], files: Iterable[ConfigFile]) -> tuple[str, ...]:
    """What the kernel is told of its security modules, and the mode SELinux is in by its configuration."""
    found = [
        word
        for word in command_line
        if word.split("=")[0] in ("lsm", "security", "lockdown", "selinux", "apparmor", "enforcing")
    ]
    for file in files:
        if file.path == "/etc/selinux/config":
            values = dict(line.split("=", 1) for line in file.text.splitlines() if "=" in line and line[0] != "#")
            mode, policy = (values.get(name, "").strip() for name in ("SELINUX", "SELINUXTYPE"))
            found.append(f"SELinux {mode or 'unknown'} ({policy})")
    return tuple(sorted(found))


def enabled_units(files: Iterable[ConfigFile]) -> tuple[str, ...]:
    """Units that something wants or requires by a link, masked ones left out."""
    rows = list(files)
    masked = {posixpath.basename(file.path) for file in rows if file.target == MASKED}
    wanted = {
        posixpath.basename(file.path)
        for file in rows
        if file.target and posixpath.dirname(file.path).endswith((".wants", ".requires"))
    }
    return tuple(sorted(wanted - masked))
