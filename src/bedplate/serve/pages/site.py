"""The routes of the pages. Every page is whole without scripts; a script keeps it fresh."""

from __future__ import annotations

from functools import partial

from starlette.routing import BaseRoute, Route

from bedplate.serve.pages.buttons import Buttons
from bedplate.serve.pages.census import CensusTaker
from bedplate.serve.pages.fleet_pages import FleetPages
from bedplate.serve.pages.frame import Frame, Page
from bedplate.serve.pages.release_pages import ReleasePages


def routes() -> list[BaseRoute]:
    """The pages' routes, for :func:`bedplate.serve.app.build`."""
    frame, census = Frame(), CensusTaker()
    fleet, releases = FleetPages(frame, census), ReleasePages(frame, census)
    pages: list[tuple[str, Page]] = [
        ("/", fleet.front),
        ("/rollouts", fleet.rollouts),
        ("/rollouts/{id}", fleet.rollout),
        ("/nodes", fleet.nodes),
        ("/nodes/{id}", fleet.node),
        ("/releases", releases.releases),
        ("/releases/{track}/{version}", releases.release),
        ("/diff/{track}", releases.diff),
        ("/log", fleet.log),
    ]
    return [
        Route("/login", frame.login_page, methods=["GET"]),
        Route("/login", frame.login, methods=["POST"]),
        Route("/logout", frame.logout, methods=["POST"]),
        Route("/live", frame.live, methods=["GET"]),
        Route("/static/{name}", frame.static, methods=["GET"]),
        Route("/rollouts/{id}/{command}", Buttons(frame, fleet).command, methods=["POST"]),
        *(Route(path, partial(frame.page, page), methods=["GET"]) for path, page in pages),
    ]
