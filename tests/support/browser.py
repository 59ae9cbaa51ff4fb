"""Chromium out of the tools set ``web``: a launcher that needs neither root nor anything of the host's but Python."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bedplate.flows.locks import Relock
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace

_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def launcher(directory: Path, distro: Path) -> Path:
    """A script in ``directory`` that starts Chromium from the tools tree.

    Chromium looks for its data beside the running program, which is the loader when it is started through ld.so: so
    the loader is copied to where links to Chromium's files are.
    """
    workspace = Workspace.from_environment(os.environ, distro=distro)
    tree = prepare_tools(workspace, "web", Relock.WHEN_NEEDED).tree
    home = directory / "chromium"
    home.mkdir(parents=True)
    for entry in (tree.root / "usr/lib/chromium").iterdir():
        (home / entry.name).symlink_to(entry)
    shutil.copy(tree.path(f"{_LIBRARIES}/ld-linux-x86-64.so.2"), home / "loader")
    fonts = directory / "fonts.conf"
    fonts.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd"><fontconfig>'
        f"<dir>{tree.root}/usr/share/fonts</dir><cachedir>{directory}/fonts</cachedir>"
        "<alias><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>"
        "<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias></fontconfig>"
    )
    parts = (_LIBRARIES, f"{_LIBRARIES}/pulseaudio", "usr/lib", "usr/lib/chromium")
    libraries = ":".join(str(tree.root / part) for part in parts)
    program = str(tree.root / "usr/lib/chromium/chromium")
    command = [str(home / "loader"), "--library-path", libraries, "--argv0", str(home / "chromium"), program]
    script = directory / "chromium.sh"
    script.write_text(f'#!/bin/sh\nexport FONTCONFIG_FILE={shlex.quote(str(fonts))}\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)
    return script


@contextmanager
def chromium(script: Path) -> Iterator[Browser]:
    """A Chromium without a window. Its own sandbox needs rights that a build machine does not give; it only ever
    opens pages of the tests."""
    arguments = ["--no-sandbox", "--no-zygote", f"--browser-subprocess-path={script}", "--disable-gpu"]
    arguments += ["--force-color-profile=srgb", "--font-render-hinting=none"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(script), args=arguments, env={"HOME": str(script.parent), "PATH": "/usr/bin:/bin"}
        )
        yield browser
        browser.close()


@dataclass
class Served:
    """A service with its pages, and the ways in."""

    address: str
    manager: str
    operator: str
    browser: Browser
    contexts: ExitStack

    def open(self, path: str, *, token: str = "", dark: bool = False, width: int = 1280, height: int = 900) -> Page:
        """A page of its own browser, logged in as the release manager or with ``token``."""
        context = self.context(token or self.manager, dark, width, height)
        page = context.new_page()
        page.set_default_timeout(60_000)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(self.address + path)
        page.problems = problems  # type: ignore[attr-defined]
        return page

    def context(self, token: str, dark: bool, width: int, height: int) -> BrowserContext:
        scheme = "dark" if dark else "light"
        context = self.browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
        self.contexts.callback(context.close)
        if token != "nobody":
            context.add_cookies([{"name": "bedplate", "value": token, "url": self.address}])
        return context
