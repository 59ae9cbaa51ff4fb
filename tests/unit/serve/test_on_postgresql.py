"""The service on a real PostgreSQL: one instance, two side by side, and the database going away."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from bedplate.serve.audit import verify
from bedplate.serve.database import Database, DatabaseGone
from bedplate.serve.people import Role
from support.postgres import Postgres
from support.services import server, services  # noqa: F401
from support.serving import Bench, FakeNode, bench, running

pytestmark = pytest.mark.tools


def test_several_migrate_at_once(server: Postgres) -> None:  # noqa: F811
    url = server.fresh("migrating")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(Database(url).migrate())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Database(url).current_revision()] * 4


def test_two_instances_see_one_fleet_and_one_of_them_leads(server: Postgres, tmp_path: Path) -> None:  # noqa: F811
    url = server.fresh("two")

    async def play() -> None:
        async with bench(tmp_path, url=url) as one, running(tmp_path, one.store, url=url, clock=one.clock) as two:
            nodes = [await one.enrol(number) for number in range(4)]
            for node in nodes:
                node.poll()
            rollout = await one.begin("1.1.0")
            await one.service.write_all()
            await one.service.tick()
            await two.service.tick()
            assert (one.service.leading, two.service.leading) == (True, False)
            await two.service.sync()
            # The nodes poll the other instance now, as behind a balancer.
            for node in nodes:
                node.bench = two
            first = [node for node in nodes if node.offered() == "1.1.0"]
            assert len(first) == 1
            first[0].update()
            first[0].poll()
            await two.service.write_all()
            await one.service.sync()
            one.clock.now += 60
            await one.service.tick()
            await two.service.sync()
            assert all(node.offered() == "1.1.0" for node in nodes)
            # The leader goes; the other one takes its place.
            await asyncio.to_thread(one.service.leadership.release)
            await two.service.tick()
            assert two.service.leading
            shown = (await two.call("GET", f"/api/v1/rollouts/{rollout['id']}")).json()
            assert shown["rings"][0]["healthy"] == 1

    asyncio.run(play())


def test_opposite_buttons_on_two_instances(server: Postgres, tmp_path: Path) -> None:  # noqa: F811
    url = server.fresh("buttons")

    async def play() -> None:
        async with bench(tmp_path, url=url) as one, running(tmp_path, one.store, url=url, clock=one.clock) as two:
            rollout = await one.begin("1.1.0")
            where, seen = f"/api/v1/rollouts/{rollout['id']}", rollout["revision"]
            for _ in range(3):
                answers = await asyncio.gather(
                    one.call("POST", f"{where}/pause", {"revision": seen}, role=Role.OPERATOR),
                    two.call("POST", f"{where}/abort", {"revision": seen}, role=Role.OPERATOR),
                    one.call("POST", f"{where}/abort", {"revision": seen}, role=Role.OPERATOR),
                )
                assert sum(one.status_code == 200 for one in answers) <= 1
                assert {one.status_code for one in answers} <= {200, 409}
            await two.service.sync()
            with two.service.database.reading() as connection:
                assert verify(connection)[0] >= 2

    asyncio.run(play())


def test_of_two_machines_with_one_credential_the_first_keeps_it(server: Postgres, tmp_path: Path) -> None:  # noqa: F811
    url = server.fresh("twins")

    async def play() -> None:
        async with bench(tmp_path, url=url) as one, running(tmp_path, one.store, url=url, clock=one.clock) as two:
            made = (await one.call("POST", "/api/v1/enrolments", {"track": "container", "ring": "all"})).json()
            await two.service.sync()
            rightful = FakeNode(one, "a" * 32, made[0]["secret"], "container")
            thief = FakeNode(two, "b" * 32, made[0]["secret"], "container")
            rightful.poll()
            thief.poll()
            await one.service.write_all()
            await two.service.write_all()
            await one.service.sync()
            await two.service.sync()
            assert [set(b.service.view.nodes) for b in (one, two)] == [{"a" * 32}] * 2
            assert thief.ask("SHA256SUMS").status == 403
            rightful.bench = two
            rightful.poll()

    asyncio.run(play())


def test_polls_are_answered_while_the_database_is_gone_and_nothing_new_is_offered(
    server: Postgres,  # noqa: F811
    tmp_path: Path,
) -> None:
    url = server.fresh("gone")

    async def play() -> None:
        async with bench(tmp_path, url=url) as b:
            node = await b.enrol(1)
            late = await b.enrol(2)
            node.poll()
            late.poll()
            await b.service.write_all()
            await b.begin("1.1.0", pace="urgent")
            server.stop()
            try:
                b.clock.now += 5
                with pytest.raises(DatabaseGone):
                    await b.service.sync()
                # A hiccup: what was decided still holds.
                assert node.offered() == "1.1.0"
                b.clock.now += 60
                await _fails(b)
                assert late.offered() == "1.0.0"
                health = (await b.call("GET", "/healthz", role=None)).json()
                assert health["state"] == "in doubt"
                assert health["problems"]
                # Who was known a moment ago may still look, but not command.
                assert (await b.call("GET", "/api/v1/nodes", role=Role.VIEWER)).status_code in (200, 503)
                assert (await b.call("GET", "/api/v1/audit")).status_code == 503
            finally:
                server.start()
            b.clock.now += 60
            await b.service.write()
            await b.service.sync()
            assert late.offered() == "1.1.0"
            assert (await b.call("GET", "/healthz", role=None)).json()["state"] == "well"
            await b.service.write_all()
            detail = (await b.call("GET", f"/api/v1/nodes/{node.machine}")).json()
            assert "offered" in [line["stage"] for line in detail["history"]]

    asyncio.run(play())


async def _fails(b: Bench) -> None:
    for work in (b.service.sync, b.service.write):
        with pytest.raises(DatabaseGone):
            await work()
