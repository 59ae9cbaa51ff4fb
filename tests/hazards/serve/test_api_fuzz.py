"""The API fuzzed from its own schema over real sockets: no answer the document does not know, no failure inside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from bedplate.serve.api.openapi import document
from bedplate.serve.app import ENDPOINTS
from bedplate.serve.audit import verify
from bedplate.serve.database import Database
from support.serve_process import Running, served_in

_EXAMPLES = 10
# What is well-formed is still refused when it names what does not exist.
_LEFT_OUT = [positive_data_acceptance]
_SCHEMA = schemathesis.openapi.from_dict(document(ENDPOINTS))
_OPERATIONS = {one.ok().label: one.ok() for one in _SCHEMA.get_all_operations()}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with served_in(tmp_path_factory.mktemp("fuzzed")) as made:
        yield made


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("label", _OPERATIONS)
def test_every_operation(label: str, mode: GenerationMode, fuzzed: Running) -> None:
    operation = _OPERATIONS[label]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        # Nothing can be wrong in a request without parts.
        mode = GenerationMode.POSITIVE

    @settings(max_examples=_EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None, derandomize=True)
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: schemathesis.Case) -> None:
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{fuzzed.port}",
            headers={"Authorization": f"Bearer {fuzzed.token}"},
            excluded_checks=_LEFT_OUT,
        )

    run()


def test_it_still_runs_and_its_audit_log_is_whole(fuzzed: Running) -> None:
    assert fuzzed.http.get("/healthz").json()["state"] == "well"
    with Database(f"sqlite:///{fuzzed.directory / 'fleet.db'}").reading() as connection:
        assert verify(connection)[0] > 0
    assert b"Traceback" not in (fuzzed.directory / "log").read_bytes()
