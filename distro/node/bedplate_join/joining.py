"""The join, step by step. Each step can be done again; a step that fails takes back what this try wrote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from bedplate_join import files, notice
from bedplate_join.directive import Request
from bedplate_join.errors import Away, JoinError
from bedplate_join.files import Found
from bedplate_join.programs import PACKAGES, Programs, password_from
from bedplate_join.state import State, Step, Store, write

_SETTLE_TRIES = 20


class Joiner:
    """Joins and leaves. ``root`` is where the system lies."""

    def __init__(
        self,
        store: Store,
        programs: Programs,
        root: Path = Path("/"),
        password_of: Callable[[str], str] = password_from,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._programs = programs
        self._root = root
        self._password_of = password_of
        self._pause = pause

    def join(self, request: Request, password: str = "") -> State:
        """Join as asked; a domain controller that is away is tried again later by a timer.

        Raises:
            JoinError: the domain refused, or something else that does not pass by itself.
            Away: it is waited for.
        """
        with self._store.locked():
            before = self._store.state
            if before.step is Step.JOINED and before.domain != request.domain:
                raise JoinError(f"this machine is a member of {before.domain}", remedy="first run: bedplate-join leave")
            self._store.keep(request)
            if before.step is not Step.JOINED:
                self._note(State(Step.WAITING, request.domain, "was not tried yet"))
            return self._try(request, password)

    def tick(self) -> State:
        """A minute has passed: try if a try is due."""
        with self._store.locked():
            state, request = self._store.state, self._store.request
            if state.step is not Step.WAITING or request is None:
                self._programs.units("stop", "--no-block", "bedplate-join.timer")
                return state
            state = replace(state, ticks=state.ticks + 1)
            self._note(state)
            if state.over:
                message = f"{state.message}; given up after {state.tries} tries"
                return self._note(replace(state, step=Step.FAILED, message=message, remedy="run: bedplate-join retry"))
            return self._try(request, "") if state.due else state

    def retry(self, password: str = "") -> State:
        """Try what was asked for last, now.

        Raises:
            JoinError: nothing was asked for, or see :meth:`join`.
        """
        with self._store.locked():
            request = self._store.request
            if request is None:
                raise JoinError("no join was asked for", remedy="run: bedplate-join join --help")
            return self._try(request, password)

    def leave(self) -> State:
        """Be no member any more.

        Raises:
            JoinError: realmd could not.
        """
        with self._store.locked():
            if self._store.state.step is Step.JOINED:
                done = self._programs.withdraw()
                if done.code != 0 and "not joined" not in done.text and "Not joined" not in done.text:
                    raise JoinError(f"the domain was not left: {done.text.strip()[-300:]}")
                self._stop()
            self._remove((*files.AFTER, *files.BEFORE))
            self._settle()
            self._store.forget()
            return self._note(State())

    def _try(self, request: Request, password: str) -> State:
        state = self._store.state
        if state.step is Step.JOINED:
            # A member that cannot do it again stays what it is.
            self._carry_out(request, password)
            return state
        state = replace(state, step=Step.WAITING, domain=request.domain, tries=state.tries + 1)
        try:
            self._carry_out(request, password)
        except Away as error:
            self._note(replace(state, message=error.message, remedy=error.remedy))
            self._programs.units("start", "--no-block", "bedplate-join.timer")
            raise
        except JoinError as error:
            self._note(replace(state, step=Step.FAILED, message=error.message, remedy=error.remedy))
            raise
        if request.one_time_password:
            self._store.keep(replace(request, one_time_password="used"))
        return self._note(State(Step.JOINED, request.domain, f"a member of {request.domain}", tries=state.tries))

    def _carry_out(self, request: Request, password: str) -> None:
        lost = self._programs.missing(PACKAGES)
        if lost:
            self._programs.install(lost)
        found = self._programs.discover(request)
        old: dict[str, str | None] = {}
        try:
            self._write(files.before(request, found, self._shell()), old)
            self._settle()
            self._programs.qualify(request.domain)
            self._enrol(request, found, password)
            self._write(files.after(request), old)
            self._begin(request)
        except BaseException:
            self._restore(old)
            self._settle()
            if self._store.state.step is not Step.JOINED:
                # Nobody logs in through a join that is not whole.
                self._stop()
            raise

    def _enrol(self, request: Request, found: Found, password: str) -> None:
        if self._programs.is_member(request) and (self._root / "etc/sssd/sssd.conf").exists():
            return
        if not request.one_time_password and not password:
            if not request.password_credential:
                raise JoinError(
                    f"the password of {request.user} is not kept", remedy="run: bedplate-join retry --password-stdin"
                )
            password = self._password_of(request.password_credential)
        self._programs.enrol(request, found, password)

    def _begin(self, request: Request) -> None:
        for command in (
            ("enable", "sssd.service"),
            ("restart", "sssd.service"),
            ("try-reload-or-restart", "ssh.service"),
        ):
            done = self._programs.units(*command)
            if done.code != 0:
                raise JoinError(
                    f"systemctl {' '.join(command)}: {done.text.strip()[-300:]}",
                    remedy="see: journalctl -u sssd; then run: bedplate-join retry",
                )
        for _ in range(_SETTLE_TRIES):
            if self._programs.knows(request):
                return
            self._pause(3.0)
        raise Away(
            f"sssd runs but the groups of {request.domain} cannot be seen through it",
            remedy="it is tried again; see: journalctl -u sssd",
        )

    def _stop(self) -> None:
        """End sssd, and what it remembers: programs read its tables of names also while it is off."""
        self._programs.units("disable", "--now", "sssd.service")
        for folder in files.REMEMBERED:
            for path in (self._root / folder.lstrip("/")).glob("*"):
                path.unlink()

    def _settle(self) -> None:
        self._programs.units("try-restart", "systemd-resolved.service")
        self._programs.reload_time()

    def _shell(self) -> str:
        for line in self._lines("etc/default/useradd"):
            if line.startswith("SHELL=/"):
                return line.partition("=")[2].strip()
        return "/bin/bash"

    def _lines(self, path: str) -> list[str]:
        file = self._root / path
        return file.read_text().splitlines() if file.exists() else []

    def _write(self, wanted: dict[str, str], old: dict[str, str | None]) -> None:
        for path, text in wanted.items():
            target = self._root / path.lstrip("/")
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            old[path] = target.read_text() if target.exists() else None
            write(target, text, files.MODES.get(path, 0o644))
        self._programs.label([self._root / path.lstrip("/") for path in wanted])

    def _restore(self, old: dict[str, str | None]) -> None:
        for path, text in old.items():
            if text is not None:
                write(self._root / path.lstrip("/"), text, files.MODES.get(path, 0o644))
                self._programs.label([self._root / path.lstrip("/")])
        self._remove(path for path, text in old.items() if text is None)

    def _remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            (self._root / path.lstrip("/")).unlink(missing_ok=True)

    def _note(self, state: State) -> State:
        self._store.note(state)
        notice.show(self._root, state)
        return state
