"""From a release to healthy nodes, by polls alone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from bedplate.serve.people import Role
from support.serving import ONE_RING, Bench, FakeNode, bench, running


def run(tmp_path: Path, story: Callable[[Bench], Awaitable[None]], **more: object) -> None:
    async def play() -> None:
        async with bench(tmp_path, **more) as made:
            await story(made)

    asyncio.run(play())


def test_one_node_goes_first_and_the_rest_follow_when_it_is_healthy(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        nodes = [await b.enrol(number) for number in range(5)]
        assert [node.offered() for node in nodes] == ["1.0.0"] * 5
        rollout = await b.begin("1.1.0")
        await b.service.tick()
        b.clock.now += 60
        first = [node for node in nodes if node.offered() == "1.1.0"]
        assert len(first) == 1
        first[0].update()
        assert first[0].offered() == "1.1.0"
        await b.service.tick()
        b.clock.now += 60
        assert [node.offered() for node in nodes] == ["1.1.0"] * 5
        for node in nodes:
            node.update()
            node.poll()
        b.clock.now += 60
        await b.service.tick()
        shown = (await b.call("GET", f"/api/v1/rollouts/{rollout['id']}", role=Role.VIEWER)).json()
        assert shown["rings"][0]["healthy"] == 5
        assert shown["status"] == "complete"

    run(tmp_path, story)


def test_a_node_that_comes_back_on_the_old_version_is_never_offered_that_release_again(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        await b.begin("1.1.0", pace="urgent")
        assert node.offered() == "1.1.0"
        node.fetch("1.1.0")
        node.boots += 2
        b.clock.now += 300
        # Back on the old version; it is offered the new one once more, and does not fetch it.
        node.poll()
        b.clock.now += 300
        node.poll()
        b.clock.now += 300
        assert node.offered() == "1.0.0"
        await b.service.write_all()
        shown = (await b.call("GET", f"/api/v1/nodes/{node.machine}")).json()
        assert shown["node"]["failed"] == ["1.1.0"]
        assert shown["history"][0]["stage"] == "fell-back"
        assert "fell back from 1.1.0" in shown["decision"]

    run(tmp_path, story)


def test_both_files_of_a_listing_are_of_one_release_whichever_is_asked_first(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        signature = node.ask("SHA256SUMS.gpg")
        await b.begin("1.1.0", pace="urgent")
        sums = node.ask("SHA256SUMS")
        assert signature.body.endswith(hashlib.sha256(sums.body).digest())
        b.clock.now += 60
        assert node.offered() == "1.1.0"

    run(tmp_path, story)


def test_a_service_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    async def play() -> None:
        async with bench(tmp_path) as b:
            nodes = [await b.enrol(number) for number in range(3)]
            for node in nodes:
                node.poll()
            await b.begin("1.1.0")
            await b.service.tick()
            b.clock.now += 60
            chosen = next(node for node in nodes if node.offered() == "1.1.0")
            chosen.fetch("1.1.0")
            await b.service.write_all()
            # What comes after the last batch is lost with the process.
            chosen.ask("SHA256SUMS")
            b.service.view.dirty.clear()
            b.service.view.events.clear()
            clock, store = b.clock, b.store
        async with running(tmp_path, store, clock=clock) as again:
            for node in nodes:
                node.bench = again
            view = again.service.view
            assert view.nodes[chosen.machine].attempt.stage.value == "rebooting"
            chosen.version = "1.1.0"
            chosen.boots += 1
            assert chosen.offered() == "1.1.0"
            again.clock.now += 60
            await again.service.tick()
            assert all(node.offered() == "1.1.0" for node in nodes)

    asyncio.run(play())


def test_failures_stop_a_rollout_and_it_says_why(tmp_path: Path) -> None:
    policy = ONE_RING + "[stop]\nlimit = 2\nat_least = 2\n"

    async def story(b: Bench) -> None:
        nodes = [await b.enrol(number) for number in range(6)]
        for node in nodes:
            node.poll()
        rollout = await b.begin("1.1.0", pace="urgent")
        for node in nodes[:3]:
            assert node.offered() == "1.1.0"
            node.fetch("1.1.0")
            node.boots += 1
        for _ in range(2):
            b.clock.now += 300
            for node in nodes[:3]:
                node.poll()
        await b.service.tick()
        shown = (await b.call("GET", f"/api/v1/rollouts/{rollout['id']}")).json()
        assert shown["status"] == "stopped"
        assert "3" in shown["why"]
        assert nodes[5].offered() == "1.0.0"
        lines = (await b.call("GET", "/api/v1/audit")).json()
        assert "rollout.stopped" in [line["action"] for line in lines]

    run(tmp_path, story, policy=policy)


def test_a_withdrawn_release_is_not_handed_out_any_more(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        await b.begin("1.1.0", pace="urgent")
        assert node.offered() == "1.1.0"
        b.store.withdraw("1.1.0", "it eats disks")
        await b.service.reload_shelf()
        assert node.ask("bedplate-container_1.1.0.efi").status == 404
        assert node.offered() == "1.0.0"
        detail = (await b.call("GET", f"/api/v1/nodes/{node.machine}")).json()
        assert "it eats disks" in detail["decision"]

    run(tmp_path, story)


def test_a_credential_made_beforehand_binds_to_the_first_machine(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        made = (await b.call("POST", "/api/v1/enrolments", {"track": "container", "ring": "all", "count": 2})).json()
        node = FakeNode(b, "a" * 32, made[0]["secret"], "container")
        node.poll()
        thief = FakeNode(b, "b" * 32, made[0]["secret"], "container")
        assert thief.ask("SHA256SUMS").status == 403
        await b.service.write_all()
        await b.service.sync()
        assert list(b.service.view.nodes) == ["a" * 32]
        ways_in = (await b.call("GET", "/api/v1/enrolments")).json()
        assert len(ways_in) == 1

    run(tmp_path, story)


def test_of_two_operators_pressing_opposite_buttons_the_second_is_told(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        rollout = await b.begin("1.1.0")
        where = f"/api/v1/rollouts/{rollout['id']}"
        seen = rollout["revision"]
        first, second = await asyncio.gather(
            b.call("POST", f"{where}/pause", {"revision": seen}, role=Role.OPERATOR),
            b.call("POST", f"{where}/abort", {"revision": seen}, role=Role.OPERATOR),
        )
        assert sorted([first.status_code, second.status_code]) == [200, 409]
        loser = first if first.status_code == 409 else second
        assert "changed" in loser.json()["error"]

    run(tmp_path, story)


def test_roles(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        body = {"channel": "stable", "track": "container", "version": "1.1.0"}
        assert (await b.call("POST", "/api/v1/rollouts", body, role=None)).status_code == 401
        assert (await b.call("POST", "/api/v1/rollouts", body, role=Role.VIEWER)).status_code == 403
        assert (await b.call("POST", "/api/v1/rollouts", body, role=Role.OPERATOR)).status_code == 403
        assert (await b.call("POST", "/api/v1/rollouts", body, role=Role.MANAGER)).status_code == 201
        token = (await b.call("POST", "/api/v1/tokens", {"name": "ci", "role": "viewer"})).json()
        b.tokens[Role.VIEWER] = token["secret"]
        assert (await b.call("GET", "/api/v1/me", role=Role.VIEWER)).json() == {"name": "ci", "role": "viewer"}
        assert (await b.call("DELETE", f"/api/v1/tokens/{token['id']}")).status_code == 204
        assert (await b.call("GET", "/api/v1/me", role=Role.VIEWER)).status_code == 401

    run(tmp_path, story)


def test_two_instances_on_one_file_have_one_leader(tmp_path: Path) -> None:
    async def play() -> None:
        async with bench(tmp_path) as one, running(tmp_path, one.store, clock=one.clock) as two:
            await one.service.tick()
            await two.service.tick()
            assert (one.service.leading, two.service.leading) == (True, False)
            node = await one.enrol(1)
            await two.service.sync()
            node.bench = two
            assert node.poll()
            one.service.leadership.release()
            await two.service.tick()
            assert two.service.leading

    asyncio.run(play())


def test_a_node_that_patches_in_place_says_what_it_took_back(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        nodes = [await b.enrol(number) for number in range(2)]
        await b.begin("1.1.0", pace="urgent")
        for node in nodes:
            assert node.offered() == "1.1.0"
        path = f"/v1/poll/{nodes[0].track}/auto/{nodes[0].machine}/{nodes[0].credential}/1.0.0/{1:032x}/SHA256SUMS"
        desk = b.service.desk
        # What says nothing, or something of another release, changes nothing.
        for query in ("", "failed=", "failed=1.0.9", "failed", "x=1.1.0", "failed=" + "," * 5000):
            assert b"1.1.0" in desk.answer(path, query).body
        assert b"1.0.0" in desk.answer(path, "failed=1.0.9%2C1.1.0").body
        shown = [(await b.call("GET", f"/api/v1/nodes/{node.machine}")).json()["node"] for node in nodes]
        assert [one["stage"] for one in shown] == ["fell-back", "offered"]
        assert shown[0]["failed"] == ["1.1.0"]
        assert nodes[0].offered() == "1.0.0"

    run(tmp_path, story)
