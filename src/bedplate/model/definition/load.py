"""Parses the files of ``distro/`` into one validated value; every mistake of every file is reported at once."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bedplate.model.definition.channels import Channels
from bedplate.model.definition.distro import Distro
from bedplate.model.definition.facts import DroppedRequirement, FactsFile, Ids, PackageFacts
from bedplate.model.definition.own import OwnPackage
from bedplate.model.definition.track import Tools, ToolSet, Track
from bedplate.model.digest import identity
from bedplate.model.errors import BadInput

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class DefinitionSet:
    """The whole definition except the owned files' contents.

    ``tracks`` by id, ``facts`` by package name (merged over the files of ``distro/packages``), ``drop_rules`` in the
    order of their files, ``own`` the packages made from the definition alone, by name.
    """

    distro: Distro
    tracks: Mapping[str, Track]
    tools: Tools
    facts: Mapping[str, PackageFacts]
    drop_rules: tuple[DroppedRequirement, ...]
    ids: Ids
    own: Mapping[str, OwnPackage] = field(default_factory=dict)
    channels: Channels = field(default_factory=Channels)

    def track(self, name: str) -> Track:
        """The track called ``name``.

        Raises:
            BadInput: there is none; the error lists those there are.
        """
        if name in self.tracks:
            return self.tracks[name]
        known = ", ".join(sorted(self.tracks))
        raise BadInput(f"no track {name!r}", where="distro/tracks", remedy=f"name one of: {known}")

    def tool_set(self, name: str) -> ToolSet:
        """The tool set called ``name``.

        Raises:
            BadInput: there is none; the error lists those there are.
        """
        if name in self.tools.sets:
            return self.tools.sets[name]
        known = ", ".join(sorted(self.tools.sets))
        raise BadInput(f"no tool set {name!r}", where="distro/tools.toml", remedy=f"name one of: {known}")

    def resolution_digest(self, wanted: Track | ToolSet, locked: Collection[str]) -> str:
        """Digest of what decided which packages were locked for ``wanted`` and what bytes they have: its package lists,
        the upstreams, and the facts, rules and own packages that concern the packages called ``locked``.

        Owned files, kernel options and limits are no part of it, nor is what is said of packages of other tracks. A
        rule for every package at once is none either: where it changes a locked package, that one's RPM digest tells.
        """
        lists = wanted.model_dump(mode="json", include={"packages", "boot_packages", "exclude", "prefer"})
        facts = [
            # Defaults say nothing: a new kind of fact makes no lock stale.
            self.facts[name].model_dump(mode="json", exclude={"scripts", "absent"}, exclude_defaults=True)
            for name in sorted(locked)
            if name in self.facts
        ]
        if isinstance(wanted, ToolSet):
            # Tools are not imported: of the facts only what changes relations matters to them.
            keys = ("name", "provides", "drop_requires", "drop_conflicts")
            facts = [
                {key: fact.get(key, self.facts[fact["name"]].model_dump()[key]) for key in keys}
                | {key: fact[key] for key in ("requires",) if key in fact}
                for fact in facts
                if any(fact.get(key) for key in (*keys[1:], "requires"))
            ]
        rules = [
            rule.model_dump(mode="json")
            for rule in self.drop_rules
            if any(fnmatchcase(name, pattern) for pattern in rule.of for name in locked)
        ]
        upstreams = [upstream.model_dump(mode="json") for upstream in self.distro.upstreams]
        # Imported packages leave the directories of own ones to them; of the rest of an own package only names matter.
        own = [
            one.model_dump(
                mode="json",
                include={"name", "release", "requires", "provides", "conflicts", "obsoletes", "directories"},
            )
            for _, one in sorted(self.own.items())
            if one.name in locked
        ]
        return identity([lists, upstreams, facts, rules, own if isinstance(wanted, Track) else None])


@dataclass
class _Mistakes:
    lines: list[str]

    def parse(self, files: Mapping[str, str], path: str, model: type[_Model]) -> _Model | None:
        if path not in files:
            self.lines.append(f"{path}: is missing")
            return None
        table = self.tables(files, [path]).get(path)
        return None if table is None else self.validate(path, table, model)

    def tables(self, files: Mapping[str, str], paths: Iterable[str]) -> dict[str, dict[str, Any]]:
        found = {}
        for path in paths:
            try:
                found[path] = tomllib.loads(files[path])
            except tomllib.TOMLDecodeError as error:
                self.lines.append(f"{path}: not valid TOML: {error}")
        return found

    def validate(self, path: str, table: Mapping[str, Any], model: type[_Model]) -> _Model | None:
        try:
            return model.model_validate(table)
        except ValidationError as error:
            self.lines += [f"{path}: {_key(problem['loc'])}: {_what(problem)}" for problem in error.errors()]
        return None

    def unique(self, path: str, kind: str, name: str, known: Iterable[str]) -> None:
        if name in known:
            self.lines.append(f"{path}: {kind} {name!r} is defined twice")


def _extended(tables: Mapping[str, dict[str, Any]], path: str, mistakes: _Mistakes) -> dict[str, Any]:
    """A track's table on top of the one it extends: lists are added to, tables merged, everything else replaced."""
    own = tables[path]
    if "extends" not in own:
        return own
    for base in tables.values():
        if base.get("id") == own["extends"] and "extends" not in base:
            return _merged(_without(base, own.get("without"), path, mistakes), own)
    mistakes.lines.append(f"{path}: extends: no track {own['extends']!r} that extends none itself")
    return own


def _without(base: Mapping[str, Any], left_out: Any, path: str, mistakes: _Mistakes) -> Mapping[str, Any]:
    """The table that is extended, less what the variant does not take over. What is not there cannot be left out: it
    would stay unseen when the base changes."""
    if not isinstance(left_out, dict):
        return base  # nothing, or a mistake that validation reports
    result = deepcopy(dict(base))
    for key, values in left_out.items():
        *tables, last = key.split(".")
        table: Any = result
        for name in tables:
            table = table.get(name) if isinstance(table, dict) else None
        there = table.get(last) if isinstance(table, dict) else None
        if not isinstance(there, list) or not isinstance(values, list):
            mistakes.lines.append(f"{path}: without.{key}: the track it extends has no such list")
            continue
        names = [_name(one) for one in there]
        mistakes.lines += [f"{path}: without.{key}: {one!r} is not in that list" for one in values if one not in names]
        table[last] = [one for one in there if _name(one) not in values]
    return result


def _name(one: Any) -> Any:
    """How an item of a list is called: a table by its ``id``, anything else by itself."""
    return one.get("id") if isinstance(one, dict) else one


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in own.items():
        before = base.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            result[key] = _merged(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            result[key] = [*before, *(one for one in value if one not in before)]
        else:
            result[key] = value
    return result


def load_definition(files: Mapping[str, str]) -> DefinitionSet:
    """Parse and validate the definition.

    Args:
        files: Path below ``distro/`` -> text, for every ``.toml`` file outside ``locks/`` and ``files/``.

    Raises:
        BadInput: any number of mistakes; its details are lines ``file: key: what``.
    """
    mistakes = _Mistakes([])
    distro = mistakes.parse(files, "distro.toml", Distro)
    tools = mistakes.parse(files, "tools.toml", Tools)
    ids = mistakes.parse(files, "ids.toml", Ids)
    channels = mistakes.parse(files, "channels.toml", Channels) if "channels.toml" in files else Channels()
    tracks: dict[str, Track] = {}
    track_tables = mistakes.tables(files, _below(files, "tracks/"))
    for path in track_tables:
        track = mistakes.validate(path, _extended(track_tables, path, mistakes), Track)
        if track is not None:
            mistakes.unique(path, "track", track.id, tracks)
            tracks[track.id] = track
    facts: dict[str, PackageFacts] = {}
    rules: list[DroppedRequirement] = []
    for path in _below(files, "packages/"):
        parsed = mistakes.parse(files, path, FactsFile)
        if parsed is not None:
            rules += parsed.drop_requires
            for fact in parsed.package:
                facts[fact.name] = _merge(facts.get(fact.name), fact, path, mistakes)
    own: dict[str, OwnPackage] = {}
    for path in _below(files, "own/"):
        package = mistakes.parse(files, path, OwnPackage)
        if package is not None:
            mistakes.unique(path, "package", package.name, own)
            own[package.name] = package
    if mistakes.lines or distro is None or tools is None or ids is None or channels is None:
        count = len(mistakes.lines)
        raise BadInput(
            f"the definition has {count} {'mistake' if count == 1 else 'mistakes'}",
            where="distro",
            details=mistakes.lines,
            remedy="correct them; the schemas are in docs/reference",
        )
    return DefinitionSet(distro, tracks, tools, facts, tuple(rules), ids, own, channels)


def _below(files: Mapping[str, str], folder: str) -> list[str]:
    return sorted(path for path in files if path.startswith(folder) and path.endswith(".toml"))


def _merge(known: PackageFacts | None, new: PackageFacts, path: str, mistakes: _Mistakes) -> PackageFacts:
    if known is None:
        return new
    merged: dict[str, Any] = {"name": new.name}
    for attribute in PackageFacts.model_fields.keys() - {"name"}:
        one, two = getattr(known, attribute), getattr(new, attribute)
        if isinstance(one, dict):
            for key in sorted(one.keys() & two.keys()):
                mistakes.lines.append(f"{path}: package.{new.name}.{attribute}: {key!r} is said in another file too")
            merged[attribute] = {**one, **two}
        else:
            merged[attribute] = [*one, *two]
    return PackageFacts.model_construct(**merged)


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(file)"


def _what(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "no such key"
    if problem["type"] == "missing":
        return "is missing"
    return str(problem["msg"])
