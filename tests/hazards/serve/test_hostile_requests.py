"""What nodes, strangers and people may send: nobody gets in, nothing is lost, every answer is a plain message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.model.errors import TrustError
from bedplate.serve import audit
from bedplate.serve.database import DatabaseGone
from bedplate.serve.models import AuditRow
from bedplate.serve.people import Role
from bedplate.serve.polls import Limits, PollDesk
from bedplate.serve.rsgi import parse_range
from bedplate.serve.secrets import SecretKind, new_secret, redacted
from bedplate.serve.view import FleetView
from support.serving import Bench, FakeNode, bench, running


def play(tmp_path: Path, story: Callable[[Bench], Awaitable[None]], **more: Any) -> None:
    async def whole() -> None:
        async with bench(tmp_path, **more) as made:
            await story(made)

    asyncio.run(whole())


STRANGE_PATHS = {
    "empty": "/v1/poll/",
    "too_short": "/v1/poll/container/auto",
    "too_long": "/v1/poll/" + "/".join("abcdefghijkl"),
    "climbing": "/v1/poll/container/auto/../../../../../../etc/passwd",
    "sql": "/v1/poll/container/auto/' OR 1=1 --/x/1/b/SHA256SUMS",
    "html": "/v1/poll/<script>/auto/a/b/c/d/SHA256SUMS",
    "zero_bytes": "/v1/poll/\x00/\x00/\x00/\x00/\x00/\x00/SHA256SUMS",
    "surrogates": "/v1/poll/container/auto/\udcff/\udcff/1/2/SHA256SUMS",
    "slashes": "/v1/poll/" + "/" * 5000,
}


@pytest.mark.parametrize("name", STRANGE_PATHS)
def test_strange_paths(name: str) -> None:
    answer: Any = PollDesk(FleetView(), lambda: 0.0).answer(STRANGE_PATHS[name])
    assert answer.status in (400, 403)


@given(st.text(max_size=400))
def test_any_path_is_answered(rest: str) -> None:
    answer: Any = PollDesk(FleetView(), lambda: 0.0).answer("/v1/poll/" + rest)
    assert answer.status in (400, 403)


NONSENSE = {
    "html_version": ("<script>alert(1)</script>", None),
    "sql_version": ("1';DROP TABLE node;--", None),
    "huge_version": ("9" * 5000, None),
    "path_version": ("..%2f..%2f", None),
    "unicode_version": ("１．０", None),
    "short_boot": ("1.0.0", "b"),
    "upper_boot": ("1.0.0", "B" * 32),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_node_that_reports_nonsense(name: str, tmp_path: Path) -> None:
    version, boot = NONSENSE[name]

    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        path = f"/v1/poll/container/auto/{node.machine}/{node.credential}/{version}/{boot or '1' * 32}/SHA256SUMS"
        assert b.service.desk.answer(path).status == 400
        assert b.service.view.nodes[node.machine].version == "1.0.0"
        assert node.poll()

    play(tmp_path, story)


def test_a_node_that_reports_another_nodes_id(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        honest, liar = await b.enrol(1), await b.enrol(2)
        honest.poll()
        forged = FakeNode(b, honest.machine, liar.credential, "container")
        forged.version = "1.1.0"
        assert forged.ask("SHA256SUMS").status == 403
        assert b.service.view.nodes[honest.machine].version == "1.0.0"
        assert FakeNode(b, liar.machine, liar.credential, "server").ask("SHA256SUMS").status == 403

    play(tmp_path, story)


def test_a_stranger_counts_as_no_success(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        rollout = await b.begin("1.1.0")
        await b.service.tick()
        for number in range(50):
            stranger = FakeNode(b, f"{number + 100:032x}", new_secret(SecretKind.NODE), "container")
            stranger.version = "1.1.0"
            assert stranger.ask("SHA256SUMS").status == 403
        b.clock.now += 60
        await b.service.tick()
        shown = (await b.call("GET", f"/api/v1/rollouts/{rollout['id']}")).json()
        assert (shown["proven"], shown["rings"][0]["healthy"]) == (False, 0)

    play(tmp_path, story)


def test_a_revoked_node_is_out_and_counts_no_more(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        assert (await b.call("DELETE", f"/api/v1/nodes/{node.machine}", role=Role.OPERATOR)).status_code == 204
        assert node.ask("SHA256SUMS").status == 403
        rollout = await b.begin("1.1.0")
        assert rollout["rings"][0]["nodes"] == 0

    play(tmp_path, story)


def test_one_node_asking_1000_times_a_second(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        noisy, quiet = await b.enrol(1), await b.enrol(2)
        answers = [noisy.ask("SHA256SUMS").status for _ in range(1000)]
        assert answers.count(200) == 60
        assert answers[-1] == 429
        assert quiet.ask("SHA256SUMS").status == 200
        assert len(b.service.view.dirty) <= 2
        b.clock.now += 60
        assert noisy.ask("SHA256SUMS").status == 200

    play(tmp_path, story)


def test_a_node_gets_no_file_it_is_not_offered(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        for name in ("bedplate-container_1.1.0.efi", "release.json", "channels.json", "..", "", "SHA256SUMS.asc"):
            assert node.ask(name).status == 404
        assert node.ask("bedplate-container_1.0.0.efi").path.endswith("1.0.0.efi")

    play(tmp_path, story)


def test_an_expired_or_foreign_enrolment_lets_nobody_in(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        wanted = {"kind": "token", "track": "container", "days": 1}
        token = (await b.call("POST", "/api/v1/enrolments", wanted)).json()[0]["secret"]
        body = {"token": token, "machine": "1" * 32, "track": "server"}
        assert (await b.call("POST", "/v1/enroll", body, role=None)).status_code == 403
        body["track"] = "container"
        bad = {"short": "1", "upper": "A" * 32, "path": "../" * 10 + "aa", "long": "1" * 33}
        for machine in bad.values():
            answer = await b.call("POST", "/v1/enroll", body | {"machine": machine}, role=None)
            assert answer.status_code == 400
        b.clock.now += 90000
        assert (await b.call("POST", "/v1/enroll", body, role=None)).status_code == 403
        assert not b.service.view.nodes

    play(tmp_path, story)


def test_a_token_for_one_redeemed_by_many_at_once_lets_one_in(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        token = (await b.call("POST", "/api/v1/enrolments", {"kind": "token", "track": "container"})).json()[0][
            "secret"
        ]
        answers = await asyncio.gather(
            *(
                b.call("POST", "/v1/enroll", {"token": token, "machine": f"{n:032x}", "track": "container"}, role=None)
                for n in range(8)
            )
        )
        assert sorted(one.status_code for one in answers) == [201] + [403] * 7

    play(tmp_path, story)


TRICKS = {
    "sql": "x' OR '1'='1",
    "html": "<img src=x onerror=alert(1)>",
    "path": "../../../../etc/passwd",
    "template": "{{7*7}}${7*7}",
    "zero": "a\x00b",
    "surrogate": "\ud800",
    "long": "x" * 100_000,
}


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_in_every_field_of_the_api(name: str, tmp_path: Path) -> None:
    trick = TRICKS[name]

    async def story(b: Bench) -> None:
        requests: list[tuple[str, str, dict[str, Any] | None]] = [
            ("POST", "/api/v1/rollouts", {"channel": trick, "track": trick, "version": trick}),
            ("POST", "/api/v1/rollouts", {"channel": "stable", "track": "container", "version": trick}),
            ("POST", "/api/v1/enrolments", {"track": trick, "ring": trick}),
            ("POST", "/api/v1/tokens", {"name": "n", "role": trick}),
            ("PUT", "/api/v1/policy", {"revision": 1, "toml": trick}),
            ("POST", "/v1/enroll", {"token": trick, "machine": trick, "track": trick}),
        ]
        for method, path, body in requests:
            content = json.dumps(body).encode()
            headers = {"authorization": f"Bearer {b.tokens[Role.MANAGER]}"}
            answer = await b.client.request(method, path, content=content, headers=headers)
            assert 400 <= answer.status_code < 500, (method, path, answer.text)
            assert answer.json()["error"]
        if name not in ("zero", "surrogate", "long"):
            for path in ("/api/v1/nodes", "/api/v1/rollouts"):
                answer = await b.client.request(
                    "GET",
                    f"{path}/{quote(trick, safe='')}",
                    headers={"authorization": f"Bearer {b.tokens[Role.MANAGER]}"},
                )
                assert answer.status_code == 404
        found = await b.client.get(
            "/api/v1/nodes",
            params={"text": trick[:60].encode("utf-8", "replace").decode()},
            headers={"authorization": f"Bearer {b.tokens[Role.MANAGER]}"},
        )
        assert found.status_code in (200, 400)

    play(tmp_path, story)


def test_an_audit_line_changed_removed_or_added_shows(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        for number in range(5):
            await b.call("POST", "/api/v1/tokens", {"name": f"t{number}", "role": "viewer"})
        database = b.service.database
        with database.reading() as connection:
            lines, _ = audit.verify(connection)
        assert lines >= 5
        for change in (
            AuditRow.__table__.update().where(AuditRow.number == 3).values(actor="somebody else"),
            AuditRow.__table__.delete().where(AuditRow.number == 3),
        ):
            with database.engine.begin() as connection:
                connection.execute(change)
            with database.reading() as connection, pytest.raises(TrustError, match="line 3"):
                audit.verify(connection)

    play(tmp_path, story)


def test_secrets_reach_neither_the_audit_log_nor_the_database_nor_a_log_line(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        b.service.desk.answer(f"/v1/poll/x/y/z/{node.credential}/1/2/3")
        await b.service.write_all()
        await b.call("PATCH", f"/api/v1/nodes/{node.machine}", {"held": f"because {node.credential}"})
        lines = (await b.call("GET", "/api/v1/audit")).text
        assert node.credential not in lines
        content = b"".join(path.read_bytes() for path in tmp_path.glob("fleet.db*"))
        for secret in (*b.tokens.values(),):
            assert secret.encode() not in content
        assert redacted(f"GET /v1/poll/x/y/z/{node.credential}/1") == "GET /v1/poll/x/y/z/bn1_…/1"

    play(tmp_path, story)


def test_a_full_or_locked_disk_holds_back_and_loses_nothing(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        await b.service.write_all()
        await b.begin("1.1.0", pace="urgent")
        # The file may not grow: what SQLite says on a full disk.
        with b.service.database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        b.service.database.dispose()
        limit = _limit_pages(b, int(pages or 0))
        assert node.offered() == "1.1.0"
        node.fetch("1.1.0")
        b.clock.now += 60
        failed = 0
        for _ in range(200):
            b.service.view.events.extend(_padding())
            try:
                await b.service.write()
            except DatabaseGone as error:
                assert "full" in str(error)
                failed += 1
                break
        assert failed == 1
        assert (await b.call("GET", "/healthz", role=None)).json()["state"] == "in doubt"
        late_offer = node.offered()
        assert late_offer == "1.0.0"
        limit()
        await b.service.write_all()
        await b.service.sync()
        assert (await b.call("GET", "/healthz", role=None)).json()["state"] == "well"
        detail = (await b.call("GET", f"/api/v1/nodes/{node.machine}")).json()
        assert "rebooting" in [line["stage"] for line in detail["history"]]

    play(tmp_path, story)


def _limit_pages(b: Bench, pages: int) -> Callable[[], None]:
    from sqlalchemy import event

    def limit(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    engine = b.service.database.engine
    event.listen(engine, "connect", limit)

    def lift() -> None:
        event.remove(engine, "connect", limit)
        b.service.database.dispose()

    return lift


def _padding() -> list[Any]:
    from bedplate.serve.view import NodeChange

    return [NodeChange("f" * 32, 0.0, "padding", "1", "x" * 300) for _ in range(500)]


def test_a_store_that_lies_or_is_gone_leaves_the_last_good_look_in_use(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        sums = b.store.root / "container/1.1.0/SHA256SUMS"
        sums.write_text("0" * 64 + " *bedplate-container_1.1.0.efi\n")
        with pytest.raises(TrustError, match="do not agree"):
            await b.service.reload_shelf()
        assert node.offered() == "1.0.0"
        assert "do not agree" in str((await b.call("GET", "/healthz", role=None)).json())

    play(tmp_path, story)


def test_a_node_that_is_not_enrolled_under_any_ring_is_held(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        made = (await b.call("POST", "/api/v1/enrolments", {"track": "container", "ring": ""})).json()
        node = FakeNode(b, "c" * 32, made[0]["secret"], "container")
        await b.begin("1.1.0", pace="urgent")
        assert node.offered() == "1.0.0"
        detail = (await b.call("GET", f"/api/v1/nodes/{node.machine}")).json()
        assert "no ring" in detail["decision"]

    play(tmp_path, story)


def test_a_database_of_a_newer_bedplate_is_refused(tmp_path: Path) -> None:
    async def whole() -> None:
        async with bench(tmp_path) as b:
            with b.service.database.engine.begin() as connection:
                connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
            store = b.store
        with pytest.raises(Exception, match="does not know"):
            async with running(tmp_path, store):
                pass

    asyncio.run(whole())


RANGES = {
    "all": ("bytes=0-", (0, 100)),
    "middle": ("bytes=10-19", (10, 20)),
    "tail": ("bytes=-10", (90, 100)),
    "tail_too_long": ("bytes=-1000", (0, 100)),
    "end_beyond": ("bytes=90-1000", (90, 100)),
    "start_beyond": ("bytes=100-", ()),
    "nothing_at_the_tail": ("bytes=-0", ()),
    "backwards": ("bytes=20-10", None),
    "several": ("bytes=0-1,5-6", None),
    "other_unit": ("lines=0-1", None),
    "nonsense": ("bytes=--5", None),
    "huge": ("bytes=" + "9" * 400 + "-", None),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name: str) -> None:
    text, span = RANGES[name]
    assert parse_range(text, 100) == span


def test_limits_hold_for_fetches_too(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        node.poll()
        answers = [node.ask("bedplate-container_1.0.0.efi") for _ in range(20)]
        assert getattr(answers[-1], "status", 200) == 429

    play(tmp_path, story, limits=Limits(fetches_a_minute=10))
