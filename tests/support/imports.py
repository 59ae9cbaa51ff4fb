"""Imports in one process, of a demo package with every kind of file."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from bedplate.model.definition.facts import Ids, PackageFacts, User
from bedplate.model.errors import BedplateError
from bedplate.packages.importer import ImportedPackage, ImportRules, import_packages
from support.debs import Deb, file, folder, hard, link

IDS = Ids(users={"root": User(uid=0), "_demo": User(uid=901)}, groups={"shadow": 42})


class Inline(Executor):
    """Runs at once, in this process."""

    started = 0

    def __init__(self, _workers: int) -> None:
        Inline.started += 1

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BedplateError as error:
            future.set_exception(error)
        return future


def import_rules(*facts: PackageFacts, **more: Any) -> ImportRules:
    return ImportRules({fact.name: fact for fact in facts}, IDS, **more)


def import_debs(
    tmp_path: Path, *debs: Deb, rules: ImportRules | None = None, cache: str = "cache"
) -> list[ImportedPackage]:
    wanted = [deb.write(tmp_path) for deb in debs]
    return import_packages(wanted, rules or import_rules(), tmp_path / cache, jobs=1, executor_factory=Inline)


DEMO = Deb(
    version="1:2.0-1",
    control={
        "Depends": "libc6 (>= 2.38), debconf",
        "Conflicts": "agent",
        "Provides": "agent",
        "Homepage": "https://x.org",
    },
    control_files={"postinst": b"#!/bin/sh\nexit 0\n", "conffiles": b"/etc/demo.conf\n"},
    items=(
        folder("./etc/"),
        file("./etc/demo.conf", b"a = 1\n"),
        file("./bin/demo", b"#!/bin/sh\n", 0o755),
        hard("./bin/demo2", "./bin/demo"),
        link("./usr/bin/d", "demo"),
        file("./usr/share/doc/demo/README", b"read"),
        file(
            "./usr/share/doc/demo/copyright",
            b"Format: https://www.debian.org/doc/copyright-format/1.0/\nLicense: GPL-2+\n",
        ),
    ),
)
