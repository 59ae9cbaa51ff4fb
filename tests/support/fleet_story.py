"""A fleet with a past, for the pages: releases, nodes that polled in virtual time, roll-outs in several states."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bedplate.fleet.policy import parse_policy
from bedplate.model.release import Artefact, Publication, Release, SignedBy
from bedplate.serve.state import node_row, put_node
from bedplate.serve.view import NodeState
from support.serving import Bench, Clock, FakeNode, StoreDirectory, running

POLICY = """
timeout = "2h"
poll = "5m"

[stop]
limit = "2%"
at_least = 4

[[rings]]
name = "canary"
kind = "canary"
soak = "30m"

[[rings]]
name = "early"
start = "10%"
duration = "2h"
soak = "30m"

[[rings]]
name = "broad"
duration = "12h"

[[rings]]
name = "office"
channel = "lts"
kind = "canary"
"""
POLL = 300.0


def write_release(
    store: StoreDirectory,
    version: str,
    *,
    track: str = "container",
    channels: tuple[str, ...] = ("stable",),
    **more: Any,
) -> None:
    """A release with facts and sizes as real ones have."""
    packages = {"openssl": "3.5.4-1", "libssl3t64": "3.5.4-1", "systemd": "257.13-1", "containerd": "2.0.5-2"}
    packages |= more.pop("packages", {})
    made = store.release(version, track=track, channels=())
    directory = store.root / track / version
    content = json.dumps({"packages": {name: {"evr": evr, "source": name} for name, evr in packages.items()}}).encode()
    name = f"{made.image}_{version}.facts.json"
    (directory / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    sizes = {"root": 127_412_224, "verity": 1_318_912, "uki": 12_434_800}
    size_change = more.pop("size_change", 0)
    artefacts = tuple(
        replace(one, size=sizes[one.kind] + (size_change if one.kind == "root" else 0)) for one in made.artefacts
    )
    facts = Artefact("facts", name, digest, len(content), "none", digest, len(content))
    release: Release = replace(
        made,
        artefacts=(*artefacts, facts),
        kernel=more.pop("kernel", "6.12.41-1"),
        created=store.created,
        command_line="ro lockdown=integrity panic=10",
        pcr11={"enter-initrd": "ab" * 32},
        signers={role: SignedBy(hashlib.sha256(role.encode()).hexdigest(), False) for role in ("boot", "update")},
        **more,
    )
    (directory / "release.json").write_text(json.dumps(release.to_json()))
    for channel in channels:
        store.publications.setdefault(channel, []).append(Publication(track, version, store.created))
    store.write_channels()


class Story:
    """A fleet on a :class:`Bench` whose nodes live in the bench's virtual time."""

    def __init__(self, bench: Bench, seed: int = 7) -> None:
        self.bench = bench
        self.random = random.Random(seed)
        self.nodes: list[FakeNode] = []
        self.due: dict[int, list[tuple[str, FakeNode, str]]] = defaultdict(list)
        self.busy: set[str] = set()
        # Which boots into a version fail, by their number; the same in every run.
        self.bad: dict[str, Callable[[int], bool]] = {}
        self.boots: Counter[str] = Counter()

    def enrol(self, number: int, ring: str, *, track: str = "container", version: str = "1.0.20261107") -> None:
        """Enrol nodes that run ``version``."""
        service = self.bench.service
        with service.database.changing() as (connection, change):
            for _ in range(number):
                machine = hashlib.sha256(f"{self.random.random()}".encode()).hexdigest()[:32]
                credential = f"bn1_{machine}{machine[:11]}"
                state = NodeState(machine, hashlib.sha256(credential.encode()).digest(), track, ring)
                state.enrolled = service.clock()
                service.view.add(state)
                put_node(connection, node_row(state), change)
                node = FakeNode(self.bench, machine, credential, track)
                node.version = version
                self.nodes.append(node)

    async def live(self, hours: float, step: float = 100.0) -> None:
        """Let ``hours`` pass: nodes poll every five minutes, take what they are offered, some fall back."""
        service, clock = self.bench.service, self.bench.clock
        phases = int(POLL / step)
        for _ in range(int(hours * 3600 / step)):
            clock.now += step
            tick = int(clock.now // step)
            for what, node, version in self.due.pop(tick, []):
                self._do(what, node, version)
            for index, node in enumerate(self.nodes):
                if index % phases == tick % phases and node.machine not in self.busy:
                    self._poll(node, tick, step)
            await service.tick()
            await service.write()
        await service.write_all()
        await service.sync()

    def _poll(self, node: FakeNode, tick: int, step: float) -> None:
        offered = node.offered()
        state = self.bench.service.view.nodes[node.machine]
        if offered == node.version or state.attempt is None or state.attempt.version != offered:
            return
        if offered in state.failed or getattr(node, "has", "") == offered:
            return
        self.busy.add(node.machine)
        one = tick + 1
        two = one + self.random.randint(1, 4)
        three = two + self.random.randint(2, 4)
        self.due[one].append(("begin", node, offered))
        self.due[two].append(("fetched", node, offered))
        self.due[three].append(("boot", node, offered))

    def _do(self, what: str, node: FakeNode, version: str) -> None:
        if what == "begin":
            node.ask(f"bedplate-{node.track}_{version}.root.gz")
        elif what == "fetched":
            node.fetch(version)
        else:
            node.boots += 1
            self.busy.discard(node.machine)
            self.boots[version] += 1
            fails = self.bad.get(version)
            if fails is not None and fails(self.boots[version]):
                node.has = version  # type: ignore[attr-defined]
            else:
                node.version = version
            node.poll()


async def live_through(root: Path, end: str) -> None:
    """Make a directory with a fleet whose story ends so: ``running``, ``stopped``, or ``none`` for no story."""
    root.mkdir(parents=True)
    clock = Clock()
    async with running(root, StoreDirectory(root / "store"), policy=parse_policy(POLICY), clock=clock) as bench:
        if end != "none":
            await tell(bench, end=end)
    (root / "now").write_text(str(clock.now))


def reopened(root: Path) -> Any:
    """A :class:`Bench` on such a directory, at the time its story ended."""
    clock = Clock(float((root / "now").read_text()))
    return running(root, StoreDirectory(root / "store"), policy=parse_policy(POLICY), clock=clock)


async def tell(bench: Bench, *, scale: int = 1, end: str = "running") -> Story:
    """A fleet whose last roll-out is ``running`` half way, or ``stopped`` by itself."""
    store = bench.store
    clock = bench.clock
    for days, version, more in (
        (21, "1.0.20261107", {"channels": ("stable", "lts")}),
        (14, "1.0.20261114", {"packages": {"systemd": "257.14-1"}, "kernel": "6.12.43-1", "size_change": 41_000}),
        (
            7,
            "1.0.20261121",
            {
                "packages": {"systemd": "257.14-1", "openssl": "3.5.5-1", "libssl3t64": "3.5.5-1", "runc": "1.3.4-1"},
                "kernel": "6.12.43-1",
                "size_change": -212_000,
                "floor": "1.0.20261107",
                "notes": "OpenSSL 3.5.5 closes three advisories.",
            },
        ),
    ):
        store.created = int(clock.now) - days * 86400 + 7 * 86400
        write_release(store, version, **more)  # type: ignore[arg-type]
    write_release(store, "1.0.20261118", track="server", channels=("stable",))
    store.created = int(clock.now)
    await bench.service.reload_shelf()
    story = Story(bench)
    story.enrol(6 * scale, "canary")
    story.enrol(32 * scale, "early")
    story.enrol(100 * scale, "broad")
    story.enrol(12 * scale, "office")
    story.enrol(9 * scale, "broad", track="server", version="1.0.20261118")
    await story.live(0.2)
    await bench.begin("1.0.20261114", pace="urgent")
    await story.live(1.0)
    story.bad["1.0.20261121"] = (
        (lambda boot: boot == 35) if end == "running" else (lambda boot: boot > 6 and boot % 3 == 0)
    )
    await bench.begin("1.0.20261121")
    await story.live(8.5 if end == "running" else 3.0)
    return story
