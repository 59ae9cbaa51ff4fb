"""FleetLock as the service speaks it: the documented exchange, whose slot it is, one budget with the roll-out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from bedplate.serve.audit import verify
from bedplate.serve.people import Role
from support.postgres import Postgres
from support.services import server, services  # noqa: F401
from support.serving import Bench, FakeNode, bench, running

HEADERS = {"fleet-lock-protocol": "true"}
TWO_RINGS = """
[[rings]]
name = "all"
kind = "canary"
soak = 0
at_once = 2
[[rings]]
name = "shops"
at_once = 1
zone = "UTC"
windows = [{ days = ["sun"], start = "02:00", length = "1h" }]
[[rings]]
name = "free"
"""


async def ask(
    node: FakeNode,
    what: str = "pre-reboot",
    *,
    id: str = "",
    group: str = "all",
    headers: dict[str, str] = HEADERS,
    method: str = "POST",
    credential: str = "",
) -> httpx.Response:
    """One request as Zincati sends it; its id is not the machine id but one made from it."""
    body = {"client_params": {"id": id or f"app-{node.machine[-4:]}", "group": group}}
    where = f"/v1/fleetlock/{credential or node.credential}/v1/{what}"
    return await node.bench.client.request(method, where, json=body, headers=headers)


def play(tmp_path: Path, story: Callable[[Bench], Awaitable[None]], policy: str = TWO_RINGS) -> None:
    async def run() -> None:
        async with bench(tmp_path, policy=policy) as b:
            await story(b)

    asyncio.run(run())


def kind(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"kind", "value"} and body["value"]
    return answer.status_code, body["kind"]


def test_the_documented_exchange(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        nodes = [await b.enrol(number) for number in range(3)]
        # Starting up: a client gives back what it may hold, which nobody refuses.
        assert [(await ask(node, "steady-state")).status_code for node in nodes] == [200] * 3
        assert (await ask(nodes[0])).status_code == 200
        again = await ask(nodes[0])
        assert (again.status_code, again.content) == (200, b"")
        assert (await ask(nodes[1])).status_code == 200
        assert kind(await ask(nodes[2])) == (409, "failed_lock_semaphore_full")
        assert (await ask(nodes[0], "steady-state")).status_code == 200
        assert (await ask(nodes[2])).status_code == 200
        log = (await b.call("GET", "/api/v1/audit")).json()
        done = [(one["action"], one["subject"]) for one in log if one["action"].startswith("reboot.")]
        machines = [node.machine for node in nodes]
        assert done == [
            ("reboot.lock", machines[2]),
            ("reboot.unlock", machines[0]),
            ("reboot.lock", machines[1]),
            ("reboot.lock", machines[0]),
        ]

    play(tmp_path, story)


def test_refusals(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        other = await b.enrol(2)
        assert kind(await ask(node, headers={})) == (400, "missing_protocol_header")
        assert kind(await ask(node, headers={"fleet-lock-protocol": "1"})) == (400, "missing_protocol_header")
        assert kind(await ask(node, method="GET")) == (405, "method_not_allowed")
        assert kind(await ask(node, group="nowhere")) == (403, "unknown_group")
        assert kind(await ask(node, group="shops")) == (403, "unknown_group")
        assert kind(await ask(node, credential="bn1_" + "a" * 43)) == (403, "unknown_client")
        await b.call("DELETE", f"/api/v1/nodes/{other.machine}")
        assert kind(await ask(other)) == (403, "unknown_client")
        assert (await ask(node, what="reboot-now")).status_code == 404
        await b.call("PATCH", f"/api/v1/nodes/{node.machine}", {"held": "being looked at"})
        held = await ask(node)
        assert kind(held) == (409, "failed_lock_not_now") and "being looked at" in held.json()["value"]
        assert (await b.call("GET", "/api/v1/slots")).json() == []

    play(tmp_path, story)


def test_nobody_gives_back_or_takes_the_slot_of_another(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node, thief = await b.enrol(1), await b.enrol(2)
        assert (await ask(node)).status_code == 200
        # With a credential of its own, under the other's name: it gives back its own, of which there is none.
        assert (await ask(thief, "steady-state", id="app-0001")).status_code == 200
        assert kind(await ask(node, "steady-state", id="app-0002")) == (403, "unknown_client")
        assert kind(await ask(node, id="app-0002")) == (403, "unknown_client")
        (slot,) = (await b.call("GET", "/api/v1/slots", role=Role.VIEWER)).json()
        assert (slot["node"], slot["ring"], slot["client"]) == (node.machine, "all", "app-0001")
        free = f"/api/v1/slots/{node.machine}/free"
        assert (await b.call("POST", free, {"why": "made anew"}, role=Role.VIEWER)).status_code == 403
        assert (await b.call("POST", free, {"why": "made anew"}, role=Role.OPERATOR)).status_code == 204
        assert (await b.call("POST", free, {"why": "made anew"}, role=Role.OPERATOR)).status_code == 404
        assert (await ask(node, id="app-0002")).status_code == 200
        with b.service.database.reading() as connection:
            assert verify(connection)[0] > 3

    play(tmp_path, story)


def test_one_budget_with_the_roll_out(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        nodes = [await b.enrol(number) for number in range(5)]
        await b.begin("1.1.0", pace="urgent")
        # A node that is down for another reason leaves room for one to be updated.
        assert (await ask(nodes[0])).status_code == 200
        assert nodes[1].offered() == "1.1.0"
        assert [node.offered() for node in nodes[2:]] == ["1.0.0"] * 3
        # No room for a third that is not on its way; the one that is has its part of the budget already.
        assert kind(await ask(nodes[2])) == (409, "failed_lock_semaphore_full")
        assert (await ask(nodes[1])).status_code == 200
        nodes[1].update()
        nodes[1].poll()
        assert nodes[2].offered() == "1.0.0"
        for node in nodes[:2]:
            assert (await ask(node, "steady-state")).status_code == 200
        assert [node.offered() for node in nodes[2:]] == ["1.1.0", "1.1.0", "1.0.0"]

    play(tmp_path, story)


def test_a_lost_node_keeps_others_of_a_ring_with_a_budget_from_rebooting(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        nodes = [await b.enrol(number) for number in range(4)]
        await b.begin("1.1.0", pace="urgent")
        assert [node.offered() for node in nodes[:2]] == ["1.1.0"] * 2
        b.clock.now += 3 * 3600
        await b.service.tick()
        answer = await ask(nodes[3])
        assert kind(answer) == (409, "failed_lock_semaphore_full") and "lost" in answer.json()["value"]

    play(tmp_path, story)


def test_windows_hold_for_reboots_and_a_ring_without_a_budget_lets_one_go(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        shop = await b.enrol(1, ring="shops")
        late = await ask(shop, group="shops")
        assert kind(late) == (409, "failed_lock_not_now") and "window" in late.json()["value"]
        b.clock.now = 1790474400.0 + 60  # a Sunday, a minute past two
        assert (await ask(shop, group="shops")).status_code == 200
        b.clock.now += 7200
        # It is down in the middle of its reboot: asking again is no new start.
        assert (await ask(shop, group="shops")).status_code == 200
        (slot,) = (await b.call("GET", "/api/v1/slots")).json()
        assert slot["overdue"]
        free = [await b.enrol(number, ring="free") for number in (5, 6)]
        assert [(await ask(node, group="free")).status_code for node in free] == [200, 409]

    play(tmp_path, story)


def test_slots_survive_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path, policy=TWO_RINGS) as b:
            nodes = [await b.enrol(number) for number in range(3)]
            assert [(await ask(node)).status_code for node in nodes] == [200, 200, 409]
        async with running(tmp_path, b.store, clock=b.clock) as again:
            for node in nodes:
                node.bench = again
            assert set(again.service.view.slots) == {node.machine for node in nodes[:2]}
            assert [(await ask(node)).status_code for node in nodes] == [200, 200, 409]
            assert (await ask(nodes[0], "steady-state")).status_code == 200
            assert (await ask(nodes[2])).status_code == 200

    asyncio.run(run())


def test_a_database_that_is_gone_gives_no_slot(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        b.service.database.dispose()
        (tmp_path / "fleet.db").rename(tmp_path / "elsewhere")
        (tmp_path / "fleet.db").mkdir()
        for leftover in tmp_path.glob("fleet.db-*"):
            leftover.unlink()
        try:
            answer = await ask(node)
            assert kind(answer) == (503, "service_unavailable") and answer.headers["retry-after"]
        finally:
            (tmp_path / "fleet.db").rmdir()
            (tmp_path / "elsewhere").rename(tmp_path / "fleet.db")

    play(tmp_path, story)


def test_a_node_that_asks_too_often(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        statuses = [(await ask(node)).status_code for _ in range(70)]
        assert statuses[:60] == [200] * 60
        assert set(statuses[60:]) == {429}

    play(tmp_path, story)


@pytest.mark.tools
def test_several_instances_never_give_out_more_than_there_are(server: Postgres, tmp_path: Path) -> None:  # noqa: F811
    url = server.fresh("slots")

    async def run() -> None:
        async with (
            bench(tmp_path, url=url, policy=TWO_RINGS) as one,
            running(tmp_path, one.store, url=url, clock=one.clock) as two,
        ):
            nodes = [await one.enrol(number) for number in range(12)]
            await two.service.sync()

            async def round_trip(number: int, node: FakeNode) -> httpx.Response:
                node.bench = (one, two)[number % 2]
                return await ask(node)

            for _ in range(3):
                answers = await asyncio.gather(*(round_trip(number, node) for number, node in enumerate(nodes)))
                assert sorted(answer.status_code for answer in answers) == [200, 200, *[409] * 10]
                holders = [node for node, answer in zip(nodes, answers, strict=True) if answer.status_code == 200]
                await one.service.sync()
                await two.service.sync()
                assert set(one.service.view.slots) == set(two.service.view.slots) == {n.machine for n in holders}
                for node in holders:
                    # Given back at the other instance.
                    node.bench = two if node.bench is one else one
                    assert (await ask(node, "steady-state")).status_code == 200
                    nodes = [*(n for n in nodes if n is not node), node]

    asyncio.run(run())
