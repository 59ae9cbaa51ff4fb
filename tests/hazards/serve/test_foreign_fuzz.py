"""FleetLock and Omaha over real sockets with anything in every part: an answer of the protocol, never a failure."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bedplate.serve.protocols.fleetlock import Kind
from support.serve_process import Running, served_in

_KINDS = {one.value for one in Kind}
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
_PARAMS = st.fixed_dictionaries({"client_params": st.fixed_dictionaries({"id": _JSON, "group": _JSON})})
_BODIES = st.binary(max_size=300) | (_JSON | _PARAMS).map(lambda value: json.dumps(value).encode())
_VALUES = st.text(max_size=60).map(lambda text: "".join(f"&#{ord(c)};" for c in text))
_QUIET = settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with served_in(tmp_path_factory.mktemp("foreign")) as made:
        yield made


def test_fleetlock(served: Running) -> None:
    credentials = [served.enrol(number)["credential"] for number in range(1, 4)]

    @_QUIET
    @given(
        st.sampled_from([*credentials, "bn1_" + "0" * 43, "%00", "..%2f"]),
        st.sampled_from(["pre-reboot", "steady-state"]),
        st.sampled_from(["POST", "GET", "PUT"]),
        st.sampled_from(["true", "false", ""]),
        _BODIES,
    )
    @example(credentials[0], "pre-reboot", "POST", "true", b'{"client_params": {"id": "\\ud800", "group": "all"}}')
    @example(credentials[0], "pre-reboot", "POST", "true", b'{"client_params": {"id": "a\\u0000", "group": "all"}}')
    @example(credentials[1], "steady-state", "POST", "true", b'{"client_params": {"id": "\'; DROP", "group": "all"}}')
    def run(credential: str, what: str, method: str, header: str, body: bytes) -> None:
        where = f"/v1/fleetlock/{credential}/v1/{what}"
        answer = served.http.request(method, where, content=body, headers={"fleet-lock-protocol": header})
        if answer.status_code not in (200, 404):
            assert answer.json()["kind"] in _KINDS - {Kind.INTERNAL.value}

    run()


def test_omaha(served: Running) -> None:
    node = served.enrol(5)

    @_QUIET
    @given(st.lists(_VALUES, min_size=9, max_size=9))
    @example(["container", node["machine"], "1.0.0", "&#0;", "x", "x", "3", "0", "99999999999"])
    @example(["container", node["machine"], "1.0.0", "x", "x", "x", "-3", "-0", "-1"])
    @example(["container", node["machine"], "1.0.0&#10;", "x", "x", "x", "", "", ""])
    def run(values: list[str]) -> None:
        app, machine, version, boot, track, prefix, type, result, code = values
        document = (
            f'<request protocol="3.0"><app appid="{app}" machineid="{machine}" version="{version}" bootid="{boot}"'
            f' track="{track}"><ping/><updatecheck targetversionprefix="{prefix}"/>'
            f'<event eventtype="{type}" eventresult="{result}" errorcode="{code}"/></app></request>'
        )
        headers = {"content-type": "text/xml"}
        answer = served.http.post(f"/v1/update/{node['credential']}/", content=document.encode(), headers=headers)
        assert answer.status_code in (200, 400, 429), answer.text

    run()


def test_it_still_runs(served: Running) -> None:
    assert served.http.get("/healthz").json()["state"] == "well"
    assert b"Traceback" not in (served.directory / "log").read_bytes()
