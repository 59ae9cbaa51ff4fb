"""The dashboard and the alert rules: they ask for metrics that exist, and alert when they should."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from bedplate.flows.locks import Relock
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from support.serving import bench

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "docs" / "monitoring"
_NAME = re.compile(r"\b(bedplate_[a-z_]+|process_[a-z_]+)\b")


def known_metrics(tmp_path: Path) -> set[str]:
    """Names the service really gives out, with a roll-out."""

    async def scrape() -> str:
        async with bench(tmp_path) as made:
            await made.enrol(1)
            await made.begin("1.1.0")
            return (await made.client.get("/metrics")).text

    return set(re.findall(r"^([a-z_]+)[ {]", asyncio.run(scrape()), re.M))


def test_dashboard_and_alerts_ask_for_metrics_that_exist(tmp_path: Path) -> None:
    dashboard = json.loads((MONITORING / "bedplate-fleet.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [one["expr"] for one in dashboard["annotations"]["list"]]
    queries += re.findall(r"label_values\((\w+)", json.dumps(dashboard["templating"]))
    asked = {name for text in queries for name in _NAME.findall(text)}
    asked |= set(_NAME.findall((MONITORING / "bedplate-alerts.yml").read_text()))
    assert asked <= known_metrics(tmp_path), asked - known_metrics(tmp_path / "again")


def test_dashboard_is_whole() -> None:
    dashboard = json.loads((MONITORING / "bedplate-fleet.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.tools
def test_alerts_fire_when_they_should() -> None:
    workspace = Workspace.from_environment(os.environ, distro=ROOT / "distro")
    tools = prepare_tools(workspace, "monitoring", Relock.WHEN_NEEDED)
    tools.run("promtool", "check", "rules", str(MONITORING / "bedplate-alerts.yml"))
    tools.run("promtool", "test", "rules", str(MONITORING / "bedplate-alerts-test.yml"))
