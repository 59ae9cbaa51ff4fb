"""Omaha as update_engine clients speak it: the shapes of their requests, and the answers they read."""

from __future__ import annotations

import base64
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.model.errors import BadInput
from bedplate.serve.protocols.omaha import (
    Answer,
    AppStatus,
    Package,
    Progress,
    Update,
    answer_for,
    parse_request,
    write_response,
)

# Every attribute and element update_engine sends with its first check after a reboot; the values are ours.
CHECK = b"""<?xml version="1.0" encoding="UTF-8"?>
<request protocol="3.0" version="update_engine-0.4.10" updaterversion="update_engine-0.4.10"
         installsource="ondemandupdate" ismachine="1">
    <os version="Chateau" platform="CoreOS" sp="1.0.20261121_x86_64"></os>
    <app appid="{6b1f0f6e-2f0b-4c57-9f0b-6b6f6e0c7d11}" version="1.0.20261121" track="stable"
         bootid="{0a3c9b1e-58f1-4d7b-8f0e-1f2e3d4c5b6a}" oem="" oemversion="" alephversion="1.0.1"
         machineid="3f2b8f5e9d7c4a6b8e1d2c3b4a596877" lang="en-US" board="amd64-usr" hardware_class=""
         delta_okay="false">
        <ping active="1"></ping>
        <updatecheck targetversionprefix=""></updatecheck>
        <event eventtype="3" eventresult="2" previousversion="1.0.20261114"></event>
    </app>
</request>
"""
SHA256 = "ab" * 32


def event(attributes: str) -> bytes:
    return (
        b'<request protocol="3.0"><app appid="a" version="1"><event '
        + attributes.encode()
        + b"></event></app></request>"
    )


def test_first_check_after_a_reboot() -> None:
    request = parse_request(CHECK, "text/xml")
    (app,) = request.apps
    assert (request.updater, request.platform, request.on_demand) == ("update_engine-0.4.10", "CoreOS", True)
    assert (app.version, app.track, app.board) == ("1.0.20261121", "stable", "amd64-usr")
    assert app.machine_id == "3f2b8f5e9d7c4a6b8e1d2c3b4a596877"
    assert app.boot_id == "{0a3c9b1e-58f1-4d7b-8f0e-1f2e3d4c5b6a}"
    assert app.ping and app.update_check
    assert app.events[0].progress is Progress.REBOOTED
    assert app.events[0].previous_version == "1.0.20261114"


@pytest.mark.parametrize(
    ("attributes", "progress"),
    [
        ('eventtype="13" eventresult="1"', Progress.DOWNLOADING),
        ('eventtype="14" eventresult="1"', Progress.DOWNLOADED),
        ('eventtype="3" eventresult="1"', Progress.INSTALLED),
        ('eventtype="3" eventresult="0" errorcode="37"', Progress.PASSING),
        ('eventtype="3" eventresult="0" errorcode="2404"', Progress.PASSING),
        ('eventtype="3" eventresult="0" errorcode="2147483657"', Progress.PASSING),
        ('eventtype="3" eventresult="0" errorcode="10"', Progress.FAILED),
        ('eventtype="800" eventresult="1"', Progress.OTHER),
    ],
)
def test_events_of_an_update(attributes: str, progress: Progress) -> None:
    app = parse_request(event(attributes)).apps[0]
    assert app.events[0].progress is progress
    assert not app.ping and not app.update_check


def test_offer_has_what_the_client_needs_to_download_and_check() -> None:
    app = parse_request(CHECK).apps[0]
    package = Package("update.gz", 1234, SHA256, sha1="cd" * 20)
    update = Update("1.0.20261128", "https://updates.example/r/", (package,))
    root = ElementTree.fromstring(write_response((answer_for(app, update=update),), elapsed_seconds=49008))
    assert root.attrib["protocol"] == "3.0"
    assert root.find("daystart").attrib == {"elapsed_seconds": "49008"}  # type: ignore[union-attr]
    answer = root.find("app")
    assert answer is not None
    assert answer.attrib == {"appid": app.id, "status": "ok"}
    assert answer.find("ping").attrib == {"status": "ok"}  # type: ignore[union-attr]
    assert len(answer.findall("event")) == 1
    check = answer.find("updatecheck")
    assert check is not None and check.attrib["status"] == "ok"
    assert check.find("urls/url").attrib["codebase"] == "https://updates.example/r/"  # type: ignore[union-attr]
    assert check.find("manifest").attrib["version"] == "1.0.20261128"  # type: ignore[union-attr]
    found = check.find("manifest/packages/package")
    assert found is not None
    assert (found.attrib["name"], found.attrib["size"], found.attrib["required"]) == ("update.gz", "1234", "true")
    assert base64.b64decode(found.attrib["hash"]).hex() == "cd" * 20
    assert found.attrib["hash_sha256"] == SHA256
    action = check.find("manifest/actions/action")
    assert action is not None and action.attrib["event"] == "postinstall"
    assert base64.b64decode(action.attrib["sha256"]).hex() == SHA256


def test_no_update_and_an_app_nobody_knows() -> None:
    app = parse_request(CHECK).apps[0]
    answers = (answer_for(app), answer_for(app, status=AppStatus.UNKNOWN_APP))
    first, second = ElementTree.fromstring(write_response(answers, elapsed_seconds=0)).findall("app")
    assert first.find("updatecheck").attrib == {"status": "noupdate"}  # type: ignore[union-attr]
    assert second.attrib["status"] == "error-unknownApplication"
    assert len(second) == 0


def test_ping_alone_is_not_offered_anything() -> None:
    body = b'<request protocol="3.0"><app appid="a" version="1"><ping active="1"/></app></request>'
    app = parse_request(body).apps[0]
    text = write_response(
        (answer_for(app, update=Update("2", "http://x/", (Package("n", 1, SHA256),))),), elapsed_seconds=1
    )
    assert b"updatecheck" not in text


@given(st.text(max_size=60))
def test_whatever_an_app_is_called_the_answer_is_well_formed(name: str) -> None:
    text = write_response((Answer(name, checked=True),), elapsed_seconds=0)
    app = ElementTree.fromstring(text).find("app")
    assert app is not None and set(app.attrib) == {"appid", "status"}


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    try:
        parse_request(body)
    except BadInput as error:
        assert error.message
