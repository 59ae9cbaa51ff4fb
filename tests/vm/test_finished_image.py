"""The real container image: looked at, checked, and built again from its own lock."""

from __future__ import annotations

import json

import pytest

from bedplate.flows.build import BuildOutcome, build_track
from bedplate.flows.images import FoundImage, find_image
from bedplate.flows.inspect import inspect_image, trusted_signers, verify_image
from bedplate.flows.locks import Relock
from bedplate.flows.rebuild import verify_rebuild
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import Level
from bedplate.verify.findings import Purpose

pytestmark = pytest.mark.vm


def test_inspection_agrees_with_the_record_of_the_build(
    container_image: FoundImage, container_build: BuildOutcome
) -> None:
    body = json.loads(json.dumps(inspect_image(container_image).to_json()))
    build = container_build.build
    assert (body["track"], body["version"], body["root_hash"]) == (build.track, build.version, build.root_hash)
    assert (body["root_bytes"], body["uki_bytes"]) == (build.root_bytes, build.uki_bytes)
    assert len(body["packages"]) == build.package_count
    assert body["expected_pcr11"] == list(build.pcr11.values())
    assert body["command_line"] == build.command_line
    assert body["unowned"] == 0


def test_the_image_passes_its_checks_and_is_no_release(workspace: Workspace, container_image: FoundImage) -> None:
    signers = trusted_signers(workspace, [])
    verdict = verify_image(workspace, container_image, Purpose.DEVELOPMENT, signers)
    assert [finding for finding in verdict.findings if finding.level is Level.ERROR] == []
    if verdict.inspection.development:
        as_release = verify_image(workspace, container_image, Purpose.RELEASE, signers)
        errors = {finding.id for finding in as_release.findings if finding.level is Level.ERROR}
        assert errors == {"image.signature.development"}


def test_the_server_passes_its_checks(workspace: Workspace) -> None:
    outcome = build_track(workspace, "server", Relock.WHEN_NEEDED)
    found = find_image(workspace, str(outcome.directory))
    verdict = verify_image(workspace, found, Purpose.DEVELOPMENT, trusted_signers(workspace, []))
    assert [finding for finding in verdict.findings if finding.level is Level.ERROR] == []


def test_no_package_manager_no_python_no_perl(container_image: FoundImage) -> None:
    image = inspect_image(container_image)
    assert image.root is not None
    kinds = {entry.kind for entry in image.root.contents.interpreters}
    assert not kinds & {"python", "perl", "ruby", "lua", "busybox"}
    assert not {"apt", "dpkg", "rpm", "dnf"} & {package.name for package in image.root.packages}


def test_built_again_from_its_lock_it_is_the_same(workspace: Workspace, container_image: FoundImage) -> None:
    report = verify_rebuild(workspace, container_image)
    differences = [f"{part.part}: {difference}" for part in report.parts for difference in part.differences[:20]]
    assert differences == []
    assert report.same
