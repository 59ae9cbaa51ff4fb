"""The hundred packages people ask for most, installed one by one in a booted server."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.server import Server

from bedplate.toolchain.run import PIPE

_HERE = Path(__file__).parent
REMOVAL = "(removal)"
DRIVER = "(driver)"


def asked_for(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The list, or those of it called ``names``: name, units to start, a command that shows that it works."""
    groups = tomllib.loads((_HERE / "hundred_packages.toml").read_text())
    found = [
        {"name": entry.get("name", key), "units": entry.get("units", []), "check": entry.get("check", "")}
        for group in groups.values()
        for key, entry in group.items()
    ]
    return [one for one in found if not names or one["name"] in names]


def install_one_by_one(server: Server, packages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What became of each package, as soon as it is known, and a last entry for taking all of them away; see
    ``one_by_one.py``. Where that ends before its time, the last entry says how."""
    files = "".join(
        f"cat >/root/hundred/{name} <<'END'\n{(_HERE / name).read_text()}END\n"
        for name in ("audit_log.py", "one_by_one.py")
    )
    script = (
        f"mkdir -p /root/hundred\n{files}python3 -s /root/hundred/one_by_one.py <<'END'\n{json.dumps(packages)}\nEND\n"
    )
    ssh, *arguments = server.session()
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        stdin.write(script.encode())
        stdin.seek(0)
        last = ""
        with server.toolbox.start(ssh, *arguments, "bash", "-s", stdin=stdin, stdout=PIPE, stderr=stderr) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if line.startswith(b"{"):
                        result = json.loads(line)
                        last = result["name"]
                        yield result
            except BaseException:
                process.terminate()  # whoever listens goes: the driver is not waited for
                raise
        if last != REMOVAL:
            stderr.seek(0)
            words = stderr.read()[-2000:].decode(errors="replace")
            yield {"name": DRIVER, "problems": [f"ended early, exit {process.returncode}: {words}"]}


class Record:
    """What became of which package, in a file: a run that was cut short goes on from there.

    Args:
        path: JSON, a list of results; ``removed`` says that a package was taken away again without a problem.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.results = {one["name"]: one for one in json.loads(path.read_text())}

    def left(self, packages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those that were not yet installed and taken away again without a problem."""
        return [one for one in packages if not self._well(one["name"])]

    def begin(self, portion: Sequence[dict[str, Any]]) -> None:
        """Forget what is known of those that come now."""
        self.results = {name: one for name, one in self.results.items() if name not in {one["name"] for one in portion}}

    def add(self, portion: Sequence[dict[str, Any]], result: dict[str, Any]) -> list[dict[str, Any]]:
        """Write a result down. That of a removal counts for each of the portion, that of a driver that ended early for
        the first it said nothing about; those after that one are returned: they had no turn."""
        name, problems = result["name"], result["problems"]
        silent = [one for one in portion if one["name"] not in self.results]
        if name == REMOVAL:
            for one in portion:
                own = self.results[one["name"]]
                own["removed"] = not problems
                own["problems"] += [f"removal: {text}" for text in problems]
        elif name != DRIVER:
            self.results[name] = result
        elif silent:
            self.results[silent[0]["name"]] = result | {"name": silent[0]["name"]}
        scratch = self.path.with_name(f".{self.path.name}.new")
        scratch.write_text(json.dumps(list(self.results.values()), indent=1))
        scratch.replace(self.path)
        return silent[1:] if name == DRIVER else []

    def _well(self, name: str) -> bool:
        result = self.results.get(name, {})
        return bool(result.get("removed")) and not result["problems"]
