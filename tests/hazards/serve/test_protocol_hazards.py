"""Hostile requests of other protocols: refused before anything of them is used."""

from __future__ import annotations

import time

import pytest

from bedplate.model.errors import BadInput
from bedplate.serve.protocols.omaha import MAX_BYTES, parse_request

APP = '<app appid="a" version="1"><updatecheck/></app>'


def document(inside: str = APP, prolog: str = "") -> bytes:
    return f'<?xml version="1.0"?>{prolog}<request protocol="3.0">{inside}</request>'.encode()


BILLION_LAUGHS = document(
    '<app appid="&i;" version="1"/>',
    "<!DOCTYPE request ["
    + '<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>",
)
HAZARDS = {
    "billion-laughs": BILLION_LAUGHS,
    "external-entity-reads-a-file": document(
        "<app appid='&x;'/>", '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    ),
    "external-dtd-asks-the-network": document(prolog='<!DOCTYPE request SYSTEM "http://127.0.0.1:9/dtd">'),
    "parameter-entity": document(prolog='<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]>'),
    "processing-instruction": document(f'<?php system("id") ?>{APP}'),
    "ten-megabytes": document("<x/>" * 2_500_000),
    "just-over-the-size-limit": document(" " * MAX_BYTES),
    "nested-a-thousand-deep": document("<a>" * 1000 + "</a>" * 1000),
    "five-thousand-elements": document("<a/>" * 5000),
    "a-hundred-apps": document(APP * 100),
    "a-thousand-events": document('<app appid="a">' + '<event eventtype="3"/>' * 1000 + "</app>"),
    "attribute-of-30-kb": document(f'<app appid="{"a" * 30_000}"/>'),
    "a-hundred-attributes": document("<app " + " ".join(f'a{n}="1"' for n in range(100)) + "/>"),
    "event-number-of-300-digits": document(f'<app appid="a"><event eventtype="{"9" * 300}"/></app>'),
    "event-number-in-other-digits": document('<app appid="a"><event eventtype="²"/></app>'),
    "nul-byte": document('<app appid="a\x00b"/>'),
    "cut-short": document()[:-5],
    "utf-16": document().decode().encode("utf-16"),
    "latin-1": '<request protocol="3.0"><app appid="\xe9"/></request>'.encode("latin-1"),
    "protocol-2": b'<request protocol="2.0"></request>',
    "a-response": b'<response protocol="3.0"></response>',
    "request-inside-something-else": b'<x><request protocol="3.0"/></x>',
    "app-without-id": document('<app version="1"/>'),
    "empty": b"",
}


@pytest.mark.parametrize("hazard", HAZARDS)
def test_omaha_request(hazard: str) -> None:
    started = time.process_time()
    with pytest.raises(BadInput, match="not an Omaha request"):
        parse_request(HAZARDS[hazard])
    assert time.process_time() - started < 1


@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/xml; charset=utf-16", "x" * 5000])
def test_omaha_content_type(kind: str) -> None:
    with pytest.raises(BadInput):
        parse_request(document(), kind)
