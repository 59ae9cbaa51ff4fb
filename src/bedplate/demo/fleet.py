"""The story of the demonstration: nodes come up, a good release reaches them all, a bad one is stopped by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedplate.demo.machines import Nodes
from bedplate.demo.versions import BAD, FIRST, GOOD, TRACK, Version, build_version
from bedplate.fleet.policy import Policy, parse_policy
from bedplate.flows.boot import machine_options
from bedplate.flows.release_create import Terms, create_releases
from bedplate.flows.release_publish import publish_release
from bedplate.flows.release_store import StorePlace, release_place
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BedplateError
from bedplate.serve.client import ServiceClient

CHANNEL = "edge"
_POLICY = """
timeout = "20m"
poll = "10s"
[stop]
limit = 1
at_least = 1
[[rings]]
name = "canary"
channel = "edge"
kind = "canary"
healthy = "100%"
soak = 0
[[rings]]
name = "fleet"
channel = "edge"
start = "100%"
soak = 0
"""
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class NodeLook:
    """A node as the service sees it."""

    name: str
    ring: str
    version: str
    stage: str
    target: str


@dataclass(frozen=True)
class Look:
    """The fleet at one moment. ``rollout`` is what is being rolled out (its version), ``why`` why it was stopped."""

    chapter: str
    nodes: tuple[NodeLook, ...] = ()
    rollout: str = ""
    status: str = ""
    why: str = ""


@dataclass(frozen=True)
class Story:
    """What the demonstration showed: the last look, and the versions each roll-out ended with."""

    last: Look
    good: str
    bad: str
    chapters: tuple[str, ...] = field(default=())


class Interrupted(BedplateError):
    """The person has seen enough."""


def demo_policy() -> Policy:
    """One node first, then all the others; one failure stops."""
    return parse_policy(_POLICY, where="the demonstration's policy")


def prepare(workspace: Workspace, place: Path) -> tuple[StorePlace, dict[str, Version]]:
    """Build the three versions and make a release of each; only the first is published.

    Raises:
        Whatever a build or a release raises.
    """
    store = release_place(workspace, str(place / "releases"))
    versions: dict[str, Version] = {}
    for number in (FIRST, GOOD, BAD):
        with workspace.progress.task(f"build and release {number}"):
            versions[number] = build_version(workspace, place, number)
            if not _created(store, number):
                create_releases(workspace, store, [str(versions[number].directory)], Terms(disk=False))
    publish_release(workspace, store, FIRST, CHANNEL, [])
    return store, versions


def _created(store: StorePlace, number: str) -> bool:
    from bedplate.flows.release_publish import created_releases

    return (TRACK, number) in created_releases(store.objects)


class Demonstration:
    """Tells the story to ``on_look`` while the service and the nodes run.

    Args:
        seconds: The longest one chapter may take.
        stop: Set by whoever has seen enough.
    """

    def __init__(
        self,
        workspace: Workspace,
        store: StorePlace,
        client: ServiceClient,
        *,
        seconds: float,
        on_look: Callable[[Look], None],
        stop: threading.Event,
    ) -> None:
        self._workspace = workspace
        self._store = store
        self._client = client
        self._seconds = seconds
        self._on_look = on_look
        self._stop = stop
        self._names: Mapping[str, str] = {}

    def run(self, first: Version, place: Path, count: int, port: int) -> Story:
        """Start ``count`` nodes and tell the story to its end.

        Raises:
            BedplateError: a chapter did not come to its end in time, or ended otherwise than it must.
            Interrupted: ``stop`` was set.
        """
        rings = ["canary", *["fleet"] * (count - 1)]
        polls = [self._way_in(ring) for ring in rings]
        options = machine_options(self._workspace, first.image)
        with Nodes(options, prepare_tools(self._workspace), place / "machines", polls, port) as nodes:
            self._names = nodes.names()
            self._until(
                f"{count} nodes start with {FIRST}",
                lambda look: len(look.nodes) == count and all(node.version for node in look.nodes),
            )
            good = self._roll_out(
                GOOD,
                f"{GOOD} is published: one node first, then the others",
                lambda look: all(node.version == GOOD for node in look.nodes),
            )
            bad = self._roll_out(
                BAD,
                f"{BAD} is published, and it is broken",
                lambda look: look.status == "stopped" and all(node.version == GOOD for node in look.nodes),
            )
        return Story(bad, good.status, bad.status)

    def _way_in(self, ring: str) -> str:
        body = {"kind": "node", "track": TRACK, "ring": ring, "count": 1, "days": 1, "tpm": False}
        (made,) = self._client.call("POST", "/api/v1/enrolments", body)
        return f"/v1/poll/{TRACK}/auto/%m/{made['secret']}/%A/%b/"

    def _roll_out(self, version: str, chapter: str, done: Callable[[Look], bool]) -> Look:
        publish_release(self._workspace, self._store, version, CHANNEL, [])
        body = {"track": TRACK, "version": version, "channel": CHANNEL, "pace": "gradual"}
        started = self._when_known(body)
        return self._until(chapter, done, str(started["id"]))

    def _when_known(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        # The service looks at the store every half minute.
        for _ in range(round(self._seconds / _LOOK_SECONDS)):
            try:
                begun: Mapping[str, Any] = self._client.call("POST", "/api/v1/rollouts", body)
                return begun
            except BedplateError as error:
                known = error
            self._pause()
        raise known

    def _until(self, chapter: str, done: Callable[[Look], bool], rollout: str = "") -> Look:
        look = Look(chapter)
        for _ in range(round(self._seconds / _LOOK_SECONDS)):
            look = self._look(chapter, rollout)
            self._on_look(look)
            if done(look):
                return look
            self._pause()
        raise BedplateError(
            f"this did not come to its end within {self._seconds / 60:.0f} minutes: {chapter}",
            details=[f"{node.name}: {node.version} {node.stage} {node.target}" for node in look.nodes],
            remedy="try fewer nodes (--nodes 2), or give it longer (--minutes)",
        )

    def _look(self, chapter: str, rollout: str) -> Look:
        rows = sorted(self._client.nodes(), key=lambda row: self._names.get(row["id"], row["id"]))
        nodes = tuple(
            NodeLook(
                self._names.get(row["id"], row["id"][:8]), row["ring"], row["version"], row["stage"], row["target"]
            )
            for row in rows
        )
        if not rollout:
            return Look(chapter, nodes)
        one = self._client.call("GET", f"/api/v1/rollouts/{rollout}")
        return Look(chapter, nodes, one["version"], one["status"], one["why"])

    def _pause(self) -> None:
        if self._stop.wait(_LOOK_SECONDS):
            raise Interrupted("interrupted")
