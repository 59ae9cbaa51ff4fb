"""Omaha protocol version 3 as update_engine clients speak it: requests parsed, responses written.

Sources: Omaha's ServerProtocolV3, and the extensions of the update_engine of ChromeOS and of Flatcar (``machineid``,
``bootid``, ``track``, ``oem``, the ``postinstall`` action with the SHA-256 in base64).

A request comes from anybody. Document types, entities, processing instructions and everything beyond the limits below
are refused before anything of the document is used.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from bedplate.model.errors import BadInput

CONTENT_TYPE = "text/xml; charset=utf-8"
MAX_BYTES = 64 * 1024
MAX_DEPTH = 6
MAX_ELEMENTS = 400
MAX_ATTRIBUTES = 40
MAX_VALUE = 512
MAX_APPS = 8
MAX_EVENTS = 32


class Progress(StrEnum):
    """What an event says about the client's update, in the terms of a roll-out."""

    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    INSTALLED = "installed"
    REBOOTED = "rebooted"
    FAILED = "failed"
    PASSING = "passing"
    OTHER = "other"


# What update_engine reports when it will simply try again: a server or network that did not answer as it should, a
# policy that says later. Its flags for how it was run are in the highest bits.
_PASSING = frozenset({2, 3, 9, 30, 31, 34, 35, 36, 37, 40})
_HTTP_ERRORS = 2000
_CODE_BITS = 0x0FFF_FFFF


@dataclass(frozen=True, slots=True)
class Event:
    """One ``<event>``: type, result and error code are Omaha's numbers."""

    type: int
    result: int
    error_code: int = 0
    previous_version: str = ""

    @property
    def progress(self) -> Progress:
        """What it says. Type 3 closes an update: result 1 when it is installed, 2 from the first boot after it, 0 when
        it failed; some failures only mean that it is tried again."""
        if self.result == 0:
            code = self.error_code & _CODE_BITS
            return Progress.PASSING if code in _PASSING or code >= _HTTP_ERRORS else Progress.FAILED
        return _PROGRESS.get((self.type, self.result), Progress.OTHER)


_PROGRESS = {
    (13, 1): Progress.DOWNLOADING,
    (14, 1): Progress.DOWNLOADED,
    (3, 1): Progress.INSTALLED,
    (3, 2): Progress.REBOOTED,
}


@dataclass(frozen=True, slots=True)
class App:
    """One ``<app>`` of a request: what is installed there, on which machine, and what it asks for."""

    id: str
    version: str
    track: str = ""
    machine_id: str = ""
    boot_id: str = ""
    board: str = ""
    oem: str = ""
    ping: bool = False
    update_check: bool = False
    target_prefix: str = ""
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    apps: tuple[App, ...]
    updater: str = ""
    platform: str = ""
    os_version: str = ""
    arch: str = ""
    on_demand: bool = False


class AppStatus(StrEnum):
    """How a request of one app was taken."""

    OK = "ok"
    UNKNOWN_APP = "error-unknownApplication"
    INVALID_APP = "error-invalidAppId"
    INVALID_VERSION = "error-invalidVersion"
    RESTRICTED = "restricted"
    INTERNAL = "error-internal"


@dataclass(frozen=True, slots=True)
class Package:
    """A file of an update: its name below the codebase, ``size`` in bytes, hex digests; ``sha1`` when it is known
    (older clients look at it)."""

    name: str
    size: int
    sha256: str
    sha1: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """An update that is offered: ``codebase`` is the URL of the directory (ending in ``/``). The first package is what
    clients that know only one take; the digest of the postinstall action is its."""

    version: str
    codebase: str
    packages: tuple[Package, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one app. ``checked``: it asked for updates; ``update`` None then means there is none."""

    id: str
    status: AppStatus = AppStatus.OK
    checked: bool = False
    update: Update | None = None
    pinged: bool = False
    events: int = 0


def answer_for(app: App, *, status: AppStatus = AppStatus.OK, update: Update | None = None) -> Answer:
    """The answer that acknowledges everything ``app`` sent, with ``update`` if it asked for one."""
    return Answer(app.id, status, app.update_check, update if app.update_check else None, app.ping, len(app.events))


def parse_request(body: bytes, content_type: str = "") -> Request:
    """Read a request.

    Args:
        body: The body as it came.
        content_type: The Content-Type header; empty is taken for XML.

    Raises:
        BadInput: it is not a request of protocol 3 within the limits.
    """
    if len(body) > MAX_BYTES:
        _refuse(f"larger than {MAX_BYTES} bytes")
    _check_content_type(content_type)
    _check_encoding(body)
    reader = _Reader()
    parser = expat.ParserCreate(encoding="utf-8")
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.refuse_markup
    parser.EntityDeclHandler = reader.refuse_markup
    parser.ProcessingInstructionHandler = reader.refuse_markup
    parser.ExternalEntityRefHandler = reader.refuse_markup
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        _refuse(f"not well-formed XML: {error}")
    return reader.request()


def write_response(answers: tuple[Answer, ...], *, elapsed_seconds: int) -> bytes:
    """A response. ``elapsed_seconds`` is since midnight of the service's day, as the protocol wants it."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<response protocol="3.0" server="bedplate">',
        f'  <daystart elapsed_seconds="{max(0, int(elapsed_seconds))}"/>',
    ]
    for answer in answers:
        lines += _answer_lines(answer)
    return "\n".join([*lines, "</response>", ""]).encode()


def _answer_lines(answer: Answer) -> list[str]:
    lines = [f"  <app appid={_value(answer.id)} status={_value(answer.status.value)}>"]
    if answer.status is AppStatus.OK:
        if answer.pinged:
            lines.append('    <ping status="ok"/>')
        lines += ['    <event status="ok"/>'] * answer.events
        if answer.update is not None:
            lines += _update_lines(answer.update)
        elif answer.checked:
            lines.append('    <updatecheck status="noupdate"/>')
    return [*lines, "  </app>"]


def _update_lines(update: Update) -> list[str]:
    first = _base64(update.packages[0].sha256)
    action = f"sha256={_value(first)} DisablePayloadBackoff={_value('true')} IsDeltaPayload={_value('false')}"
    return [
        '    <updatecheck status="ok">',
        f"      <urls><url codebase={_value(update.codebase)}/></urls>",
        f"      <manifest version={_value(update.version)}>",
        f"        <packages>{''.join(map(_package, update.packages))}</packages>",
        f"        <actions><action event={_value('postinstall')} {action}/></actions>",
        "      </manifest>",
        "    </updatecheck>",
    ]


def _package(package: Package) -> str:
    named = f"name={_value(package.name)} size={_value(str(package.size))} required={_value('true')}"
    sha1 = f"hash={_value(_base64(package.sha1))} " if package.sha1 else ""
    return f"<package {named} {sha1}hash_sha256={_value(package.sha256)}/>"


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


def _value(text: str) -> str:
    # XML 1.0 cannot hold most control characters in any spelling; what cannot be said is left out.
    said = "".join(
        char for char in text if char >= " " and not "\ud800" <= char <= "\udfff" and char not in "\ufffe\uffff"
    )
    return quoteattr(said, {'"': "&quot;"})


def _check_content_type(text: str) -> None:
    kind, _, parameters = text.partition(";")
    if text and kind.strip().lower() not in ("text/xml", "application/xml"):
        _refuse(f"content type {kind.strip()[:40]!r}, wanted text/xml")
    charset = parameters.lower().partition("charset=")[2].strip(' "')
    if charset and charset != "utf-8":
        _refuse("only UTF-8 is read")


def _check_encoding(body: bytes) -> None:
    # expat would follow a byte order mark into UTF-16, whatever it is told.
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("only UTF-8 is read")
    if "\0" in text:
        _refuse("it holds a NUL")


def _refuse(why: str) -> NoReturn:
    raise BadInput(f"not an Omaha request that is taken: {why}")


class _Reader:
    """Collects the elements it knows where they belong; others are left alone, as the protocol wants."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.elements = 0
        self.head: dict[str, str] | None = None
        self.os: dict[str, str] = {}
        self.apps: list[tuple[dict[str, str], dict[str, dict[str, str]], list[dict[str, str]]]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        if self.elements > MAX_ELEMENTS or len(self.path) >= MAX_DEPTH or len(attributes) > MAX_ATTRIBUTES:
            _refuse("too many or too deeply nested elements")
        if any(len(value) > MAX_VALUE for value in attributes.values()):
            _refuse(f"an attribute is longer than {MAX_VALUE} characters")
        self.path.append(name)
        match self.path:
            case ["request"]:
                self.head = attributes
            case [other]:
                _refuse(f"it is a <{other[:40]}>")
            case ["request", "os"]:
                self.os = attributes
            case ["request", "app"]:
                if len(self.apps) >= MAX_APPS:
                    _refuse(f"more than {MAX_APPS} apps")
                self.apps.append((attributes, {}, []))
            case ["request", "app", "event"]:
                if len(self.apps[-1][2]) >= MAX_EVENTS:
                    _refuse(f"more than {MAX_EVENTS} events")
                self.apps[-1][2].append(attributes)
            case ["request", "app", "ping" | "updatecheck"]:
                self.apps[-1][1].setdefault(name, attributes)

    def end(self, name: str) -> None:
        self.path.pop()

    def refuse_markup(self, *_: object) -> NoReturn:
        _refuse("document types, entities and processing instructions are not taken")

    def request(self) -> Request:
        if self.head is None:
            _refuse("there is no request in it")
        if self.head.get("protocol") != "3.0":
            _refuse(f"protocol {self.head.get('protocol', '')[:10]!r}; only 3.0 is spoken")
        return Request(
            apps=tuple(_app(*parts) for parts in self.apps),
            updater=self.head.get("updaterversion") or self.head.get("version", ""),
            platform=self.os.get("platform", ""),
            os_version=self.os.get("version", ""),
            arch=self.os.get("arch", ""),
            on_demand=self.head.get("installsource") == "ondemandupdate",
        )


def _app(attributes: dict[str, str], asked: dict[str, dict[str, str]], events: list[dict[str, str]]) -> App:
    if not attributes.get("appid"):
        _refuse("an app has no appid")
    return App(
        id=attributes["appid"],
        version=attributes.get("version", ""),
        track=attributes.get("track", ""),
        machine_id=attributes.get("machineid", ""),
        boot_id=attributes.get("bootid", ""),
        board=attributes.get("board", ""),
        oem=attributes.get("oem", ""),
        ping="ping" in asked,
        update_check="updatecheck" in asked,
        target_prefix=asked.get("updatecheck", {}).get("targetversionprefix", ""),
        events=tuple(
            Event(
                _number(event, "eventtype"),
                _number(event, "eventresult"),
                _number(event, "errorcode"),
                event.get("previousversion", ""),
            )
            for event in events
        ),
    )


def _number(attributes: dict[str, str], name: str) -> int:
    text = attributes.get(name, "0") or "0"
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        _refuse(f"{name} is no number")
    return int(text)
