"""The pages in a real browser: they render, they stay fresh without reloading, keys and buttons work.

With ``BEDPLATE_PICTURES`` set to a directory, pictures of the pages are written there (for docs/pictures).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from support.browser import Served

pytestmark = pytest.mark.tools
Start = Callable[[str], Served]


def picture(page: Page, name: str) -> None:
    """Keep a picture of a page when somebody asked for pictures."""
    directory = os.environ.get("BEDPLATE_PICTURES")
    if directory:
        expect(page.locator("[data-lamp]")).to_have_text("live")
        page.screenshot(path=str(Path(directory) / f"{name}.png"))


def settled(page: Page) -> None:
    """No error on the console (the content policy would be one), nothing wider than the window."""
    expect(page.locator("[data-lamp]")).to_have_text("live")
    assert page.problems == []  # type: ignore[attr-defined]
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


def test_every_page_renders_in_every_light_and_width(served: Start) -> None:
    service = served("running")
    for dark, width in ((False, 1280), (True, 1280), (False, 390)):
        suffix = "-dark" if dark else "-narrow" if width < 1000 else ""
        page = service.open("/", dark=dark, width=width)
        settled(page)
        picture(page, f"fleet-overview{suffix}")
        page.locator(".rollout-card h3 a").first.click()
        expect(page.locator("svg.picture path")).not_to_have_count(0)
        settled(page)
        page.set_viewport_size({"width": width, "height": 1060})
        picture(page, f"fleet-rollout{suffix}")
    page = service.open("/nodes?stage=fell-back")
    node = page.locator('a[href^="/nodes/"]').first.get_attribute("href") or ""
    names = {"/nodes": "fleet-nodes", "/diff/container": "fleet-diff", node: "fleet-node"}
    for path in (*names, "/releases", "/releases/container/1.0.20261121", "/log"):
        page.goto(service.address + path)
        settled(page)
        if path in names:
            picture(page, names[path])


def test_a_button_pressed_elsewhere_shows_here_without_reloading(served: Start) -> None:
    service = served("running")
    watching = service.open("/")
    settled(watching)
    watching.evaluate("window.notReloaded = true")
    acting = service.open("/")
    acting.locator(".rollout-card h3 a").first.click()
    acting.get_by_text("Stop…").click()
    acting.get_by_label("Why (people see this)").first.fill("lunch")
    acting.get_by_role("button", name="Stop the roll-out").click()
    expect(acting.locator("h1")).to_contain_text("paused")
    expect(watching.locator(".rollout-card")).to_contain_text("Paused: lunch")
    assert watching.evaluate("window.notReloaded")


def test_two_operators_press_opposite_buttons(served: Start) -> None:
    service = served("running")
    one, two = service.open("/", token=service.operator), service.open("/")
    for page in (one, two):
        page.locator(".rollout-card h3 a").first.click()
    two.get_by_text("Roll back…").click()
    # An open menu is not pulled away while somebody types in it, so the second sees the old revision.
    two.get_by_label("Why (people see this)").nth(1).fill("errors at the till")
    one.get_by_text("Stop…").click()
    one.get_by_role("button", name="Stop the roll-out").click()
    expect(one.locator("h1")).to_contain_text("paused")
    two.get_by_role("button", name="Roll back", exact=True).click()
    expect(two.locator(".notice.bad").first).to_contain_text("Nothing was done")


def test_a_stopped_roll_out_goes_on_when_a_person_says_why(served: Start) -> None:
    service = served("stopped")
    page = service.open("/")
    expect(page.locator("main")).to_contain_text("stopped and waits for a person")
    page.locator(".rollout-card h3 a").first.click()
    settled(page)
    page.get_by_text("Go on…").click()
    picture(page, "fleet-stopped")
    page.get_by_role("button", name="Go on", exact=True).click()
    expect(page.locator("h1")).to_contain_text("stopped")  # the field is required: nothing was sent
    page.get_by_label("Why", exact=True).fill("the bad batch is out of the racks")
    page.get_by_role("button", name="Go on", exact=True).click()
    expect(page.locator("h1")).to_contain_text("running")


def test_keys_alone_reach_everything(served: Start) -> None:
    service = served("running")
    page = service.open("/")
    settled(page)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("n")
    page.wait_for_url("**/nodes")
    page.keyboard.press("/")
    expect(page.locator("[data-search]")).to_be_focused()
    page.keyboard.type("1.0.20261107")
    page.keyboard.press("Enter")
    page.wait_for_url("**/nodes?q=1.0.20261107**")
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/rollouts")
    page.locator(".rollout-card h3 a").first.focus()
    page.keyboard.press("Enter")
    stop = page.locator("summary", has_text="Stop…")
    stop.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Why (people see this)").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(stop).to_be_focused()


def test_an_empty_fleet_and_the_way_in(served: Start) -> None:
    service = served("none")
    page = service.open("/nodes", token="nobody")
    page.get_by_label("Your token").fill(service.manager)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/nodes")
    expect(page.locator("main")).to_contain_text("No node is enrolled yet")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto(service.address + "/")
    expect(page.get_by_label("Your token")).to_be_visible()


def test_without_scripts_everything_is_still_there(served: Start) -> None:
    service = served("running")
    context = service.browser.new_context(java_script_enabled=False)
    service.contexts.callback(context.close)
    context.add_cookies([{"name": "bedplate", "value": service.manager, "url": service.address}])
    page = context.new_page()
    page.goto(service.address + "/")
    page.locator(".rollout-card h3 a").first.click()
    page.get_by_text("Stop…").click()
    page.get_by_role("button", name="Stop the roll-out").click()
    expect(page.locator("h1")).to_contain_text("paused")
