"""Omaha as the service speaks it: the requests its clients send, in their order, and what the roll-out makes of them.

The documents have the shapes (elements, attributes, their values' forms) of what update_engine and go-omaha send; the
values are ours.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from bedplate.serve.foreign.omaha import application_id
from support.serving import Bench, FakeNode, bench

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass
class Engine:
    """What update_engine of a Flatcar-style system sends."""

    b: Bench
    node: FakeNode
    version: str = "1.0.0"
    boot: str = "0A3C9B1E-58F1-4D7B-8F0E-1F2E3D4C5B6A"
    previous: str = ""
    machine: str = ""
    app: str = application_id("container")

    def document(self, inner: str, source: str = "scheduler") -> str:
        return (
            f'{HEAD}<request protocol="3.0" version="update_engine-0.4.10" updaterversion="update_engine-0.4.10"'
            f' installsource="{source}" ismachine="1">\n'
            f'    <os version="Chateau" platform="CoreOS" sp="{self.version}_x86_64"></os>\n'
            f'    <app appid="{self.app}" version="{self.version}" track="all" bootid="{{{self.boot}}}" oem=""'
            f' oemversion="" alephversion="{self.version}" machineid="{self.machine or self.node.machine}"'
            ' machinealias="" lang="en-US" board="amd64-usr" hardware_class="" delta_okay="false">\n'
            f"{inner}    </app>\n</request>\n"
        )

    async def send(self, inner: str, **more: Any) -> ElementTree.Element:
        """The answer's app."""
        answer = await post(self.b, self.node.credential, self.document(inner, **more))
        assert answer.status_code == 200, answer.text
        app = ElementTree.fromstring(answer.content).find("app")
        assert app is not None and app.attrib["appid"] == self.app
        return app

    async def check(self, first: bool = False) -> ElementTree.Element:
        """An update check; the first one of a boot reports the boot."""
        event = '        <event eventtype="3" eventresult="2" previousversion=""></event>\n'
        inner = '        <ping active="1"></ping>\n        <updatecheck targetversionprefix=""></updatecheck>\n'
        app = await self.send(inner + (event if first else ""))
        assert app.attrib["status"] == "ok"
        assert app.find("ping").attrib == {"status": "ok"}  # type: ignore[union-attr]
        assert len(app.findall("event")) == first
        check = app.find("updatecheck")
        assert check is not None
        return check

    async def event(self, type: int, result: int, code: int | None = None) -> None:
        error = "" if code is None else f' errorcode="{code}"'
        app = await self.send(f'        <event eventtype="{type}" eventresult="{result}"{error}></event>\n')
        assert [one.attrib for one in app] == [{"status": "ok"}]

    async def download(self, check: ElementTree.Element) -> None:
        """Fetch every package from where the manifest says and check it, as the client does."""
        codebase = check.find("urls/url").attrib["codebase"]  # type: ignore[union-attr]
        assert codebase.startswith("http://service.test/v1/poll/") and codebase.endswith("/")
        packages = check.findall("manifest/packages/package")
        for package in packages:
            found = self.b.service.desk.answer(codebase.removeprefix("http://service.test") + package.attrib["name"])
            content = Path(found.path).read_bytes() if hasattr(found, "path") else found.body
            assert len(content) == int(package.attrib["size"])
            assert hashlib.sha256(content).hexdigest() == package.attrib["hash_sha256"]
        action = check.find("manifest/actions/action")
        assert action is not None and action.attrib["event"] == "postinstall"
        assert base64.b64decode(action.attrib["sha256"]).hex() == packages[0].attrib["hash_sha256"]
        names = [package.attrib["name"] for package in packages]
        assert names[-2:] == ["SHA256SUMS", "SHA256SUMS.gpg"]

    async def update(self) -> None:
        """From the offer to the restart, with every event on the way."""
        check = await self.check()
        assert check.attrib["status"] == "ok"
        await self.event(13, 1)
        assert await stage(self) == "downloading"
        await self.download(check)
        await self.event(14, 1)
        await self.event(3, 1)
        assert await stage(self) == "rebooting"
        self.boot = f"1{self.boot[1:]}" if self.boot[0] == "0" else f"0{self.boot[1:]}"


async def post(b: Bench, credential: str, document: str, kind: str = "text/xml") -> httpx.Response:
    where = f"/v1/update/{credential}/" if credential else "/v1/update/"
    return await b.client.post(where, content=document.encode(), headers={"content-type": kind})


async def stage(engine: Engine) -> str:
    return str((await engine.b.call("GET", f"/api/v1/nodes/{engine.node.machine}")).json()["node"]["stage"])


def play(tmp_path: Path, story: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        async with bench(tmp_path) as b:
            await story(b)

    asyncio.run(run())


def test_a_client_from_check_to_healthy(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        engine = Engine(b, await b.enrol(1))
        assert (await engine.check(first=True)).attrib == {"status": "noupdate"}
        await b.begin("1.1.0", pace="urgent")
        await engine.update()
        engine.version = "1.1.0"
        assert (await engine.check(first=True)).attrib == {"status": "noupdate"}
        assert await stage(engine) == "healthy"
        detail = (await b.call("GET", f"/api/v1/nodes/{engine.node.machine}")).json()
        assert [one["stage"] for one in detail["history"]][:4] == ["healthy", "rebooting", "downloading", "offered"]

    play(tmp_path, story)


def test_a_client_that_came_back_on_the_old_version(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        engine = Engine(b, await b.enrol(1))
        await engine.check(first=True)
        await b.begin("1.1.0", pace="urgent")
        await engine.update()
        # The first check of the boot says that the boot is over; the version is the old one.
        assert (await engine.check(first=True)).attrib == {"status": "noupdate"}
        assert await stage(engine) == "fell-back"
        assert (await engine.check()).attrib == {"status": "noupdate"}

    play(tmp_path, story)


def test_errors_that_pass_and_errors_that_do_not(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        engine = Engine(b, await b.enrol(1))
        await engine.check(first=True)
        # An error of an update nobody offered is noted nowhere.
        await engine.event(3, 0, 12)
        assert await stage(engine) == ""
        await b.begin("1.1.0", pace="urgent")
        await engine.check()
        for code in (9, 2404, 0x80000000 | 37, 36):
            await engine.event(3, 0, code)
        assert await stage(engine) == "offered"
        await engine.event(3, 0, 10)
        assert await stage(engine) == "fell-back"
        detail = (await b.call("GET", f"/api/v1/nodes/{engine.node.machine}")).json()
        assert "error 10" in detail["history"][0]["sentence"]
        assert (await engine.check()).attrib == {"status": "noupdate"}
        # What is over stays over.
        await engine.event(3, 1)
        assert await stage(engine) == "fell-back"

    play(tmp_path, story)


def test_a_strangers_word_counts_for_nothing(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        engine, other = Engine(b, await b.enrol(1)), await b.enrol(2)
        await engine.check(first=True)
        await b.begin("1.1.0", pace="urgent")
        document = engine.document('<ping active="1"/><updatecheck/>')
        for credential, status in (("", 403), ("bn1_" + "x" * 43, 403), ("nothing", 403)):
            assert (await post(b, credential, document)).status_code == status
        # Another node's credential with this machine's id, and the other way round.
        liar = Engine(b, other, machine=engine.node.machine, version="1.1.0")
        app = await liar.send('<ping active="1"/><updatecheck/><event eventtype="3" eventresult="2"/>')
        assert app.attrib["status"] == "restricted" and len(app) == 0
        assert await stage(engine) == "" and await stage(liar) == ""
        nobody = Engine(b, other, machine="not-a-machine")
        assert (await nobody.send("<updatecheck/>")).attrib["status"] == "restricted"
        foreign = Engine(b, other, app="{0a3c9b1e-58f1-4d7b-8f0e-1f2e3d4c5b6a}")
        assert (await foreign.send("<updatecheck/>")).attrib["status"] == "error-unknownApplication"
        strange = Engine(b, other, version="../1")
        assert (await strange.send("<updatecheck/>")).attrib["status"] == "error-invalidVersion"
        await b.call("DELETE", f"/api/v1/nodes/{engine.node.machine}")
        assert (await post(b, engine.node.credential, document)).status_code == 403

    play(tmp_path, story)


def test_a_credential_made_beforehand_is_bound_to_the_first_machine(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        made = (await b.call("POST", "/api/v1/enrolments", {"track": "container"})).json()[0]["secret"]
        first = Engine(b, FakeNode(b, "a" * 32, made, "container"))
        second = Engine(b, FakeNode(b, "b" * 32, made, "container"))
        stray = Engine(b, first.node, app="{0a3c9b1e-58f1-4d7b-8f0e-1f2e3d4c5b6a}")
        assert (await post(b, made, stray.document("<updatecheck/>"))).status_code == 403
        assert (await first.check(first=True)).attrib == {"status": "noupdate"}
        assert (await second.send("<updatecheck/>")).attrib["status"] == "restricted"
        # The group it asked for is a ring, and nobody had decided another one.
        assert b.service.view.nodes["a" * 32].ring == "all"

    play(tmp_path, story)


def test_a_prefix_that_does_not_fit_a_track_by_its_name_and_a_ping_alone(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        engine = Engine(b, await b.enrol(1), app="container")
        await b.begin("1.1.0", pace="urgent")
        for prefix, status in (("1.0", "noupdate"), ("1.1", "ok"), ("1.1.0", "ok"), ("2", "noupdate")):
            app = await engine.send(f'<updatecheck targetversionprefix="{prefix}"/>')
            assert app.find("updatecheck").attrib["status"] == status  # type: ignore[union-attr]
        app = await engine.send('<ping active="1" a="-1" r="-1"></ping>')
        assert [one.tag for one in app] == ["ping"]

    play(tmp_path, story)


# What the library go-omaha sends: ids twice, no braces around them, and its boot id is one of the process.
LIBRARY = (
    HEAD
    + '<request protocol="3.0" version="go-omaha" userid="{machine}" sessionid="{session}">'
    + '<app appid="{app}" version="{version}" track="all" bootid="{session}" machineid="{machine}">{inner}</app>'
    + "</request>"
)


def test_a_client_of_the_go_library(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        values = {
            "machine": node.machine,
            "session": "5b1f3c52-8c0e-4b53-9d6e-0f6a7a0d7c11",
            "app": application_id("container").strip("{}"),
        }
        check = '<updatecheck></updatecheck><ping active="1"></ping><event eventtype="3" eventresult="2"></event>'

        async def send(inner: str, version: str = "1.0.0") -> ElementTree.Element:
            answer = await post(b, node.credential, LIBRARY.format(**values, version=version, inner=inner))
            assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/xml")
            app = ElementTree.fromstring(answer.content).find("app")
            assert app is not None and app.attrib == {"appid": values["app"], "status": "ok"}
            return app

        first = await send(check)
        assert first.find("updatecheck").attrib["status"] == "noupdate"  # type: ignore[union-attr]
        await b.begin("1.1.0", pace="urgent")
        offered = await send(check)
        assert offered.find("updatecheck/manifest").attrib["version"] == "1.1.0"  # type: ignore[union-attr]
        for type, result in ((13, 1), (14, 1), (6, 1), (3, 1)):
            assert (await send(f'<event eventtype="{type}" eventresult="{result}"></event>')).find("event") is not None
        # It says "complete" with every check, in the same session too: that is no fall-back.
        await send(check)
        assert (await b.call("GET", f"/api/v1/nodes/{node.machine}")).json()["node"]["stage"] == "rebooting"
        values["session"] = "6c1f3c52-8c0e-4b53-9d6e-0f6a7a0d7c11"
        await send(check, "1.1.0")
        assert (await b.call("GET", f"/api/v1/nodes/{node.machine}")).json()["node"]["stage"] == "healthy"

    play(tmp_path, story)


def test_the_shape_of_older_engines_is_read(tmp_path: Path) -> None:
    """Group and boot before, no machine id: without one nobody can be told from another, so it is refused as such."""

    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        document = (
            f'{HEAD}<request protocol="3.0" version="ChromeOSUpdateEngine-0.1.0.0" ismachine="1"'
            ' updaterversion="ChromeOSUpdateEngine-0.1.0.0" installsource="ondemandupdate">\n'
            '<os version="Indy" platform="Chrome OS" sp="ForcedUpdate_x86_64"></os>\n'
            f'<app appid="{application_id("container")}" bootid="{{7D52A1CC-0000-40F0-91C7-7CB6A871BFDE}}"'
            ' groupid="{82D95689-0000-46A1-87D2-17B3FFF85988}" previousbootid="{8BDE4C4D-0000-4D61-B41C-3253212C0C37}"'
            ' oem="" version="ForcedUpdate" track="dev-channel" from_track="developer-build" lang="en-US"'
            ' board="amd64-generic" hardware_class="" delta_okay="false" >\n'
            '<ping active="1" a="-1" r="-1"></ping>\n<updatecheck targetversionprefix=""></updatecheck>\n'
            '<event eventtype="3" eventresult="2" previousversion=""></event>\n</app>\n</request>\n'
        )
        answer = await post(b, node.credential, document)
        assert 'status="restricted"' in answer.text

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("document", "kind", "host", "status"),
    [
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><request protocol='3.0'/>", "text/xml", "service.test", 400),
        ("<request protocol='2.0'/>", "text/xml", "service.test", 400),
        ("{}", "application/json", "service.test", 400),
        ("<request", "text/xml", "service.test", 400),
        ("<request protocol='3.0'/>", "text/xml", "evil.test/?<", 400),
        ("<request protocol='3.0'/>", "text/xml", "service.test:8443", 200),
    ],
)
def test_what_is_refused(document: str, kind: str, host: str, status: int, tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        node = await b.enrol(1)
        headers = {"content-type": kind, "host": host}
        where = f"/v1/update/{node.credential}"
        answer = await b.client.post(where, content=document.encode(), headers=headers)
        assert answer.status_code == status, answer.text
        assert (await b.client.get(where)).status_code == 405

    play(tmp_path, story)


def test_a_client_that_asks_too_often(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        engine = Engine(b, await b.enrol(1))
        document = engine.document("<updatecheck/>")
        statuses = [(await post(b, engine.node.credential, document)).status_code for _ in range(65)]
        assert statuses == [200] * 60 + [429] * 5

    play(tmp_path, story)
