"""A release store in a directory, and a service on it: as real as the service needs, small enough for unit tests."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
from cryptography.x509 import Certificate

from bedplate.fleet.policy import Policy, parse_policy
from bedplate.model.release import Artefact, Publication, Release, Withdrawal
from bedplate.serve.app import build
from bedplate.serve.catalog import DirectoryCatalog
from bedplate.serve.database import Database
from bedplate.serve.people import People, Role
from bedplate.serve.polls import DEFAULT_LIMITS, Limits
from bedplate.serve.service import Pacing, Service

START = 1_790_000_000.0
TRACK = "container"
# Nothing happens by itself: tests call what they want to happen.
STILL = Pacing(write=3600, sync=3600, tick=3600, shelf=3600)
ONE_RING = """
timeout = "2h"
[[rings]]
name = "all"
kind = "canary"
soak = 0
"""


class Clock:
    """A clock that tests move."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class StoreDirectory:
    """Releases written as :class:`~bedplate.serve.catalog.DirectoryCatalog` reads them."""

    def __init__(self, root: Path, created: int = int(START) - 1000) -> None:
        self.root = root
        self.created = created
        self.publications: dict[str, list[Publication]] = {}
        self.withdrawals: dict[str, list[Withdrawal]] = {}
        root.mkdir(parents=True, exist_ok=True)

    def release(
        self,
        version: str,
        *,
        track: str = TRACK,
        channels: Sequence[str] = ("stable",),
        floor: str = "",
        files: Mapping[str, bytes] | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> Release:
        """Make a release of three small files, or of ``files`` (kind, which is also the name's ending, and content),
        and publish it."""
        image = f"bedplate-{track}"
        directory = self.root / track / version
        directory.mkdir(parents=True)
        artefacts = []
        endings = {"root": "root.gz", "verity": "verity", "uki": "efi"}
        made = {kind: f"{kind} of {track} {version}\n".encode() * 200 for kind in endings} if files is None else files
        for kind, content in made.items():
            name = f"{image}_{version}.{endings.get(kind, kind)}"
            (directory / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            artefacts.append(Artefact(kind, name, digest, len(content), "none", digest, len(content), update=True))
        sums = "".join(f"{one.sha256} *{one.name}\n" for one in artefacts)
        (directory / "SHA256SUMS").write_text(sums)
        signature = b"signature of " + hashlib.sha256(sums.encode()).digest() if sign is None else sign(sums.encode())
        (directory / "SHA256SUMS.gpg").write_bytes(signature)
        release = Release(
            track=track,
            version=version,
            image=image,
            created=self.created,
            expires=self.created + 90 * 86400,
            artefacts=tuple(artefacts),
            root_hash=hashlib.sha256(version.encode()).hexdigest(),
            command_line="ro",
            kernel="6.12",
            pcr11={},
            build="b",
            lock_sha256="0" * 64,
            floor=floor,
        )
        (directory / "release.json").write_text(json.dumps(release.to_json()))
        for channel in channels:
            self.publications.setdefault(channel, []).append(Publication(track, version, int(START)))
        self.write_channels()
        return release

    def withdraw(self, version: str, reason: str, *, track: str = TRACK, channel: str = "stable") -> None:
        """Withdraw a release from a channel."""
        self.withdrawals.setdefault(channel, []).append(Withdrawal(track, version, reason, int(START)))
        self.write_channels()

    def write_channels(self) -> None:
        data: dict[str, Any] = {
            name: {
                "title": name,
                "publications": [asdict(one) for one in rows],
                "withdrawals": [asdict(one) for one in self.withdrawals.get(name, [])],
            }
            for name, rows in self.publications.items()
        }
        (self.root / "channels.json").write_text(json.dumps(data))


class Bench:
    """A service that stands still, its API through a client without a network, and nodes that poll its desk."""

    def __init__(self, service: Service, clock: Clock, store: StoreDirectory) -> None:
        self.service = service
        self.clock = clock
        self.store = store
        self.people = People(service.database)
        self.tokens = {
            role: self.people.create(role.value, role, 86400.0 * 30, actor="test", now=clock.now)[1] for role in Role
        }
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(build(service, self.people), raise_app_exceptions=False),
            base_url="http://service.test",
        )

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, role: Role | None = Role.MANAGER
    ) -> httpx.Response:
        """One request to the API as somebody of ``role``."""
        headers = {} if role is None else {"authorization": f"Bearer {self.tokens[role]}"}
        return await self.client.request(method, path, json=body, headers=headers)

    async def enrol(self, number: int, *, ring: str = "all", track: str = TRACK) -> FakeNode:
        """A node that got its credential by a token."""
        made = await self.call("POST", "/api/v1/enrolments", {"kind": "token", "track": track, "ring": ring})
        token = made.json()[0]["secret"]
        machine = f"{number:032x}"
        got = await self.call("POST", "/v1/enroll", {"token": token, "machine": machine, "track": track}, role=None)
        assert got.status_code == 201, got.text
        return FakeNode(self, machine, got.json()["credential"], track)

    async def begin(self, version: str, **more: Any) -> dict[str, Any]:
        """Begin a roll-out in channel stable."""
        body = {"channel": "stable", "track": TRACK, "version": version, **more}
        answer = await self.call("POST", "/api/v1/rollouts", body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


class FakeNode:
    """Asks as stock systemd-sysupdate does."""

    def __init__(self, bench: Bench, machine: str, credential: str, track: str) -> None:
        self.bench = bench
        self.machine = machine
        self.credential = credential
        self.track = track
        self.boots = 1
        self.version = "1.0.0"

    def ask(self, name: str, *, version: str | None = None) -> Any:
        """The answer to one request: a ``Reply`` or a ``ServedFile``."""
        boot = f"{self.boots:032x}"
        path = f"/v1/poll/{self.track}/auto/{self.machine}/{self.credential}/{version or self.version}/{boot}/{name}"
        return self.bench.service.desk.answer(path)

    def poll(self) -> bytes:
        """One poll: both files of the listing. Returns SHA256SUMS."""
        sums, signature = self.ask("SHA256SUMS"), self.ask("SHA256SUMS.gpg")
        assert (sums.status, signature.status) == (200, 200), sums.body
        assert signature.body == b"signature of " + hashlib.sha256(sums.body).digest()
        return bytes(sums.body)

    def offered(self) -> str:
        """The version of the listing it gets."""
        return self.poll().split(b"_")[1].rsplit(b".", 2)[0].decode().removesuffix(".root")

    def update(self) -> None:
        """Fetch everything that is offered, the UKI last, and restart into it."""
        version = self.offered()
        self.fetch(version)
        self.version = version
        self.boots += 1

    def fetch(self, version: str) -> None:
        for ending in ("root.gz", "verity", "efi"):
            answer = self.ask(f"bedplate-{self.track}_{version}.{ending}")
            assert Path(answer.path).is_file()


@asynccontextmanager
async def bench(
    tmp_path: Path,
    *,
    policy: str = ONE_RING,
    url: str = "",
    limits: Limits = DEFAULT_LIMITS,
    versions: Sequence[str] = ("1.0.0", "1.1.0"),
    tpm_roots: Sequence[Certificate] = (),
    clock: Clock | None = None,
) -> Any:
    """A :class:`Bench` on a fresh (or the given) database with some releases."""
    store = StoreDirectory(tmp_path / "store")
    for version in versions:
        store.release(version)
    given = parse_policy(policy)
    more = {"url": url, "limits": limits, "tpm_roots": tpm_roots, "clock": clock}
    async with running(tmp_path, store, policy=given, **more) as one:
        yield one


@asynccontextmanager
async def running(
    tmp_path: Path,
    store: StoreDirectory,
    *,
    policy: Policy | None = None,
    url: str = "",
    clock: Clock | None = None,
    limits: Limits = DEFAULT_LIMITS,
    tpm_roots: Sequence[Certificate] = (),
) -> Any:
    """A :class:`Bench` on a store that is there already."""
    clock = clock or Clock()
    database = Database(url or f"sqlite:///{tmp_path / 'fleet.db'}")
    catalog = DirectoryCatalog(store.root)
    service = Service(database, catalog, policy=policy, limits=limits, pacing=STILL, tpm_roots=tpm_roots, clock=clock)
    await service.start()
    try:
        made = Bench(service, clock, store)
        yield made
        await made.client.aclose()
    finally:
        await asyncio.shield(service.stop())
