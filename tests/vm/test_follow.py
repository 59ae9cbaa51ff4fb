"""A server follows releases: a real update service, a real repository, one boot, asked in order."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.following import add_state, snapshot
from tests.support.repository import make_repository
from tests.support.serve_process import Running, served_in
from tests.support.server import DENIALS, booted_server

from bedplate.flows.definition import read_definition
from bedplate.flows.keys import key_store
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BedplateError
from bedplate.toolchain.run import Completed, Toolbox

pytestmark = pytest.mark.vm

# The image's version is 1.0.
GOOD, BAD = "1.0.1", "1.0.2"
CHECK = """#!/bin/sh
! rpm -q bedplate-repos-1.0-3
"""


@dataclass(frozen=True)
class Fleet:
    """A booted server, the service it asks, and the repository it installs from."""

    ask: Callable[[str], Completed]
    service: Running
    repository: Path
    machine: str

    def node(self) -> dict[str, Any]:
        """What the service knows of the server."""
        return dict(self.service.client.call("GET", f"/api/v1/nodes/{self.machine}")["node"])

    def journal(self) -> str:
        """What the unit wrote."""
        return self.ask("journalctl -u bedplate-follow -o cat | tail -30").text

    def follow(self) -> tuple[int, dict[str, Any]]:
        """One run of the unit; its exit status, and what is remembered afterwards."""
        self.ask("systemctl start bedplate-follow.service")
        code = self.ask("systemctl show -P ExecMainStatus bedplate-follow.service").text.strip()
        return int(code), json.loads(self.ask("bedplate-follow status --json").text)


@pytest.fixture(scope="module")
def fleet(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    place = tmp_path_factory.mktemp("follow")
    repository = make_repository(workspace, "server", [], place / "repository")
    (place / "service").mkdir()
    with (
        served_in(place / "service") as service,
        booted_server(workspace, toolbox, place, repository) as server,
    ):
        yield Fleet(server.ask, service, repository, server.run("cat /etc/machine-id").strip())


def _release(workspace: Workspace, fleet: Fleet, version: str, state: str) -> None:
    sign = key_store(workspace, read_definition(workspace)).signer("update").sign
    content = snapshot(fleet.repository, state, version, int(time.time()) + 86400)
    fleet.service.store.release(version, track="server", files={"snapshot": content}, sign=sign)


def _roll_out(fleet: Fleet, version: str) -> None:
    """Begin a roll-out of a release as soon as the service has seen it."""
    body = {"channel": "stable", "track": "server", "version": version, "pace": "urgent"}
    deadline = time.monotonic() + 60
    while True:
        try:
            fleet.service.client.call("POST", "/api/v1/rollouts", body)
            return
        except BedplateError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_it_asks_nobody_until_it_is_told_whom(fleet: Fleet) -> None:
    seen = fleet.ask(
        "systemctl start bedplate-follow.service; systemctl show -P ConditionResult bedplate-follow.service"
    )
    assert seen.text.split() == ["no"]
    assert fleet.ask("systemctl is-enabled bedplate-follow.timer").text.strip() == "enabled"


def test_it_moves_to_the_state_of_the_offered_release_and_the_next_poll_says_so(
    fleet: Fleet, workspace: Workspace
) -> None:
    _release(workspace, fleet, "1.0", add_state(workspace, fleet.repository, "1"))
    _release(workspace, fleet, GOOD, add_state(workspace, fleet.repository, "2"))
    node = fleet.service.enrol(fleet.machine, "server")
    url = f"http://10.0.2.2:{fleet.service.port}{node['path']}"
    fleet.ask(f"install -d -m 700 /etc/credstore; printf %s '{url}' >/etc/credstore/bedplate.update.url")
    _roll_out(fleet, GOOD)
    code, memory = fleet.follow()
    assert (code, memory["version"], memory["failed"]) == (0, GOOD, []), fleet.journal()
    assert fleet.ask("rpm -q bedplate-repos").text.strip() == "bedplate-repos-1.0-2.noarch"
    seen = fleet.node()
    assert (seen["version"], seen["stage"]) == (GOOD, "healthy")
    # A second one finds nothing to do.
    assert fleet.follow()[0] == 0


def test_a_release_that_makes_the_system_unwell_is_taken_back_and_the_service_told(
    fleet: Fleet, workspace: Workspace
) -> None:
    fleet.ask(f"cat >/etc/bedplate-patch/health.d/ours <<'E'\n{CHECK}E\nchmod 755 /etc/bedplate-patch/health.d/ours")
    _release(workspace, fleet, BAD, add_state(workspace, fleet.repository, "3"))
    _roll_out(fleet, BAD)
    code, memory = fleet.follow()
    assert (code, memory["version"], memory["failed"]) == (1, GOOD, [BAD]), fleet.journal()
    assert fleet.ask("rpm -q bedplate-repos").text.strip() == "bedplate-repos-1.0-2.noarch"
    seen = fleet.node()
    assert (seen["version"], seen["stage"], seen["failed"]) == (GOOD, "fell-back", [BAD])
    assert fleet.follow()[0] == 0


def test_a_repository_that_serves_another_state_and_a_service_that_lies_are_refused(fleet: Fleet) -> None:
    # Signed by the right key, and not what the release stands for: an older state in its place.
    old, new = (next((fleet.repository / "states").glob(f"*{n}/1/x86_64/repodata")) for n in ("1", "2"))
    away = new.with_name("away")
    new.rename(away)
    new.symlink_to(old)
    try:
        done = fleet.ask("dnf -y --refresh upgrade")
        assert done.code != 0
        assert "does not hold the state of release 1.0.1" in done.text + done.stderr
    finally:
        new.unlink()
        away.rename(new)
    assert fleet.ask("dnf -y --refresh upgrade").code == 0
    # A service that hands out what nobody signed, and one that is not there.
    lies = fleet.repository / "lies"
    shutil.copytree(fleet.service.store.root / "server" / BAD, lies)
    listing = lies / "SHA256SUMS"
    listing.write_bytes(listing.read_bytes().replace(BAD.encode(), b"1.0.9"))
    base = fleet.ask("cat /etc/dnf/vars/bedplate_url").text.strip()
    for url, code in ((f"{base}/lies/", 5), (f"{base}/nothing/", 4), ("ftp://x/", 2)):
        assert fleet.ask(f"bedplate-follow run --url {url}").code == code, url


def test_nothing_was_denied(fleet: Fleet) -> None:
    assert fleet.ask(DENIALS).text.splitlines() == []
