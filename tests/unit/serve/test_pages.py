"""The pages through HTTP: who may look, what they say, what the buttons do, and what tricks in every field come to."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
import typer.main

from bedplate.cli.main import app
from bedplate.serve import pages
from bedplate.serve.app import build
from bedplate.serve.pages.site import routes
from bedplate.serve.people import Role
from support.fleet_story import live_through, reopened
from support.serving import Bench

Browse = Callable[["Visit"], Awaitable[None]]
Play = Callable[..., None]


class Visit:
    """A browser without a window: keeps the cookie, finds the forms."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        transport = httpx.ASGITransport(build(bench.service, bench.people, routes()))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://fleet.test")

    def log_in(self, role: Role) -> None:
        self.http.cookies.clear()
        self.http.cookies.set("bedplate", self.bench.tokens[role])

    async def page(self, path: str, status: int = 200) -> str:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        check_html(answer.text)
        return answer.text

    async def rollout(self) -> str:
        """The address of the newest roll-out."""
        found = re.search(r'href="(/rollouts/[^"]+)"', await self.page("/rollouts"))
        assert found
        return found[1]

    async def press(self, path: str, command: str, **fields: str) -> httpx.Response:
        """Send the form of a command as its page has it."""
        form = re.search(rf'action="[^"]*/{command}">.*?</form>', await self.page(path), re.S)
        assert form, f"no button for {command}"
        hidden = dict(re.findall(r'type="hidden" name="([a-z]+)" value="([^"]*)"', form[0]))
        return await self.http.post(f"{path}/{command}", data={**hidden, "why": "a test", **fields})


_VOID = {"meta", "link", "input", "line", "rect", "path", "circle", "br", "img"}


class _Nesting(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on") or name == "style":
                self.problems.append(f"<{tag} {name}>: the policy forbids it")
        if tag == "script" and not dict(attrs).get("src"):
            self.problems.append("a script in the page")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")


def check_html(text: str) -> None:
    """Everything that is opened is closed, ids are unique, and nothing is in the page that its policy forbids."""
    reader = _Nesting()
    reader.feed(text)
    assert not reader.problems
    assert not reader.open
    assert len(reader.ids) == len(set(reader.ids))


@pytest.fixture(scope="module")
def pasts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fleets that were lived through once: a database and a store for each way the story ends."""
    return tmp_path_factory.mktemp("pasts")


@pytest.fixture
def visit(pasts: Path, tmp_path: Path) -> Callable[..., None]:
    """Browse a copy of a fleet with a past (``running`` or ``stopped``), or of none at all."""

    def play(browse: Browse, end: str = "none") -> None:
        if not (pasts / end).exists():
            asyncio.run(live_through(pasts / end, end))
        shutil.copytree(pasts / end, tmp_path / "fleet")
        asyncio.run(_browse(browse, tmp_path / "fleet", end))

    return play


async def _browse(browse: Browse, root: Path, end: str) -> None:
    async with reopened(root) as bench:
        made = Visit(bench)
        made.log_in(Role.MANAGER)
        await browse(made)
        await made.http.aclose()


def test_nobody_sees_anything_and_a_token_opens_the_door(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        v.http.cookies.clear()
        for path in ("/", "/rollouts", "/rollouts/x", "/nodes?q=a", "/releases", "/diff/container", "/log"):
            answer = await v.http.get(path)
            assert answer.status_code == 303 and answer.headers["location"].startswith("/login")
        assert (await v.http.get("/live")).status_code == 403
        wrong = await v.http.post("/login", data={"token": "bt1_" + "a" * 43})
        assert wrong.status_code == 403 and "has expired or was revoked" in wrong.text
        right = await v.http.post("/login", data={"token": v.bench.tokens[Role.VIEWER], "to": "/nodes"})
        assert (right.status_code, right.headers["location"]) == (303, "/nodes")
        cookie = right.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        await v.page("/nodes")

    visit(browse)


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_login_leads_nowhere_else(visit: Play, to: str) -> None:
    async def browse(v: Visit) -> None:
        answer = await v.http.post("/login", data={"token": v.bench.tokens[Role.VIEWER], "to": to})
        assert answer.headers["location"] == "/"

    visit(browse)


def test_an_empty_service_says_what_to_do_next(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        front = await v.page("/")
        assert "Nothing is being rolled out" in front and "bedplate release publish" in front
        assert "No node is enrolled yet" in await v.page("/nodes")
        assert "The store holds no release" in await v.page("/releases")
        assert "There was no roll-out yet" in await v.page("/rollouts")
        assert "no such roll-out" in (await v.page("/rollouts/none", 404)).lower()
        assert "no such node" in (await v.page("/nodes/none", 404)).lower()

    visit(browse)


def test_a_running_roll_out_from_every_side(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        front = await v.page("/")
        assert "1 roll-out is under way" in front
        where = await v.rollout()
        page = await v.page(where)
        for words in (
            "canary",
            "early",
            "broad",
            "The first node is well",
            "What happened",
            "Stop rule",
            "OpenSSL 3.5.5 closes",
        ):
            assert words in page, words
        picture = page[page.index('class="picture"') : page.index("</svg>", page.index('class="picture"'))]
        assert 'class="s-healthy" d="M' in picture and 'class="s-fell-back" d="M' in picture
        fallen = await v.page("/nodes?stage=fell-back")
        node = re.search(r'href="(/nodes/[0-9a-f]{32})"', fallen)
        assert node
        shown = await v.page(node[1])
        assert "It fell back from 1.0.20261121 once and is not offered it again." in shown
        assert "hold.fell-back" in shown
        difference = await v.page("/diff/container?old=1.0.20261114&new=1.0.20261121")
        assert "3 packages changed" in difference and "3.5.5-1" in difference and "runc" in difference
        release = await v.page("/releases/container/1.0.20261121")
        assert "boot" in release and "6.12.43-1" in release
        assert "began the roll-out" in await v.page("/log")

    visit(browse, "running")


def test_search_finds_nodes_by_part_of_their_id_and_pages_through_them(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        machines = set(v.bench.service.view.nodes)
        wanted = min(machines)
        assert wanted in await v.page(f"/nodes?q={wanted[4:20]}")
        everything = await v.page("/nodes")
        assert "Page 1 of 4" in everything
        seen = set()
        for number in range(1, 5):
            seen |= set(re.findall(r'href="/nodes/([0-9a-f]{32})"', await v.page(f"/nodes?page={number}")))
        assert seen == machines
        assert "Page 4 of 4" in await v.page("/nodes?page=999999")
        assert "No node fits" in await v.page("/nodes?q=zzz&ring=canary")

    visit(browse, "running")


def test_stop_go_on_and_roll_back(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        where = await v.rollout()
        assert (await v.press(where, "pause")).status_code == 303
        page = await v.page(where)
        assert "Paused: a test" in page and "<strong>release-manager</strong> paused it" in page
        # Somebody else still looks at the page from before: his button does nothing, and he is told why.
        stale = await v.http.post(f"{where}/abort", data={"revision": "0", "key": key(page), "why": "late"})
        assert stale.status_code == 409 and "Nothing was done" in stale.text
        assert (await v.press(where, "resume")).status_code == 303
        assert "paused" not in (await v.page("/")).split("Lately")[0]
        back = await v.press(where, "rollback", version="1.0.20261114")
        assert back.status_code == 303 and back.headers["location"] != where
        page = await v.page(back.headers["location"])
        assert "Takes back from" in page
        assert "followed by 1.0.20261114" in await v.page(where)

    visit(browse, "running")


def test_a_stopped_roll_out_says_why_and_waits_for_a_person(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        assert "stopped and waits for a person" in await v.page("/")
        where = await v.rollout()
        page = await v.page(where)
        assert "It stopped by itself and waits for a person" in page
        assert "fell back; the limit is 2 % once 4 have" in page
        assert "Nodes it failed on" in page
        assert (await v.press(where, "resume", why="driver fixed on site")).status_code == 303
        page = await v.page(where)
        assert "driver fixed on site" in page and "earlier failures were excused" in page

    visit(browse, "stopped")


@pytest.mark.parametrize(("role", "buttons"), [(Role.VIEWER, set()), (Role.OPERATOR, {"pause", "abort"})])
def test_buttons_are_for_those_who_may_press_them(visit: Play, role: Role, buttons: set[str]) -> None:
    async def browse(v: Visit) -> None:
        where = await v.rollout()
        v.log_in(role)
        page = await v.page(where)
        assert set(re.findall(r'action="/rollouts/[^/"]+/([a-z]+)"', page)) == buttons
        forced = await v.http.post(f"{where}/rollback", data={"revision": "1", "key": key(page), "version": "1"})
        assert forced.status_code == 400 and "this needs the role" in forced.text.lower()

    visit(browse, "running")


def key(page: str) -> str:
    """The key that forms of this page carry."""
    found = re.search(r'name="key" value="([0-9a-f]+)"', page)
    assert found
    return found[1]


def test_forms_of_other_sites_do_nothing(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        where = await v.rollout()
        page = await v.page(where)
        revision = re.search(r'name="revision" value="(\d+)"', page)
        assert revision
        fields = {"revision": revision[1], "why": "x", "key": key(page)}
        for headers, data in (
            ({"origin": "http://evil.example"}, fields),
            ({"sec-fetch-site": "cross-site"}, fields),
            ({}, {**fields, "key": "0" * 40}),
            ({}, {name: value for name, value in fields.items() if name != "key"}),
        ):
            answer = await v.http.post(f"{where}/pause", data=data, headers=headers)
            assert answer.status_code == 400, (headers, data)
        raw = await v.http.post(f"{where}/pause", content=b"{}", headers={"content-type": "application/json"})
        assert raw.status_code == 400
        assert "Stop the roll-out" in await v.page(where)
        assert (await v.http.post(f"{where}/explode", data=fields)).status_code == 404

    visit(browse, "running")


TRICKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' OR 1=1; DROP TABLE node; --",
    "../../../../etc/passwd",
    "%00%0d%0aset-cookie:a=b",
    "{{ 7 * 7 }}{% raw %}",
    "\u202e\ud7ff\U0001f4a9",
    "a" * 3000,
]


def test_tricks_in_every_field(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        where = await v.rollout()
        for trick in TRICKS:
            for query in ("q", "ring", "track", "stage", "version", "page"):
                answer = await v.http.get("/nodes", params={query: trick})
                assert answer.status_code == 200
                check_html(answer.text)
                assert "<" not in trick or trick not in answer.text
            part = quote(trick, safe="")
            for path in ("/nodes/X", "/rollouts/X", "/releases/X/1", "/releases/container/X", "/diff/X", "/static/X"):
                answer = await v.http.get(path.replace("X", part))
                assert answer.status_code in (400, 404, 405), path
                assert "root:" not in answer.text and "<script>alert" not in answer.text
            answer = await v.http.get("/diff/container", params={"old": trick, "new": trick})
            assert answer.status_code == 404
            command = "pause" if 'action="' + where + "/pause" in await v.page(where) else "resume"
            assert (await v.press(where, command, why=trick)).status_code == 303
            page = await v.page(where)
            assert "<img" not in page and "<script>" not in page
            check_html(await v.page("/log"))
        # Nothing of a reason was taken for a template.
        assert "{{ 7 * 7 }}" in await v.page(where)
        assert len(v.bench.service.view.nodes) == 159

    visit(browse, "running")


def test_static_files_are_ours_and_kept_by_browsers(visit: Play) -> None:
    async def browse(v: Visit) -> None:
        page = await v.page("/")
        for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
            answer = await v.http.get(unquote(address))
            assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
        assert not re.findall(r'(?:href|src|action)="(?:https?:)?//', page)

    visit(browse)


def test_commands_that_pages_name_exist_with_these_arguments() -> None:
    templates = Path(pages.__file__).parents[1] / "templates"
    named = [
        one
        for path in templates.glob("*.html")
        for one in re.findall(r"<code>bedplate ([^<]+)</code>", path.read_text())
    ]
    assert named
    for line in named:
        words = re.sub(r"\{\{[^}]*\}\}", "1", line).split()
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command.make_context("bedplate", words).command is command, line
