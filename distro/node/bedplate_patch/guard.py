"""Guards an ordinary ``dnf`` transaction: when it fails, or power is lost in the middle, the packages are as before.

The journal is the one a patch uses, with fewer things saved, so the initrd and the early unit put it back the same way.
A guarded transaction is never ``APPLIED``: once its files are on the disk there is nothing left to decide.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bedplate_patch import boot
from bedplate_patch.errors import NotStarted, PatchError
from bedplate_patch.journal import Journal, State
from bedplate_patch.paths import save_paths
from bedplate_patch.saved import Layout, check_room, concerned
from bedplate_patch.transaction import Change

KIND = "transaction"


class NoRoom(PatchError):
    """The disk cannot hold the old files beside the new ones."""


@dataclass
class Guard:
    """One transaction's guard. Others are kept out from ``begin`` to ``keep`` or ``let_go``."""

    journal: Journal
    layout: Layout
    _lock: ExitStack = field(default_factory=ExitStack)
    active: bool = False

    def begin(self, changes: Sequence[Change], old: Collection[str], new: Collection[str], coming: int) -> None:
        """Save what the transaction may change.

        Args:
            old: Absolute paths of all files of packages that go.
            new: The same of packages that come.
            coming: Bytes of the new packages once unpacked.

        Raises:
            NotStarted: a patch or another transaction is under way.
            NoRoom: there is no room to save anything; nothing was saved.
        """
        self._lock.enter_context(self.journal.locked())
        try:
            self._begin(changes, old, new, coming)
        except BaseException:
            self._lock.close()
            raise
        self.active = True

    def _begin(self, changes: Sequence[Change], old: Collection[str], new: Collection[str], coming: int) -> None:
        if self.journal.under_way:
            if self.journal.state is not State.APPLIED:
                raise NotStarted(
                    "a transaction or patch was interrupted", remedy="put it back first: bedplate-patch recover"
                )
            # Whoever changes packages while a patch waits for its reboot takes over: the patch is kept as it is.
            self.journal.end()
        started = time.time()
        facts = {
            "kind": KIND,
            "id": time.strftime("%Y%m%dT%H%M%S", time.gmtime(started)) + "-" + secrets.token_hex(3),
            "started": started,
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "changes": [asdict(change) for change in changes],
            "entries": list(boot.entries(self.layout.root)),
        }
        paths = {*old, *new}
        layout = replace(concerned(self.layout, paths), linked=())
        try:
            check_room(layout, self.journal.store, coming)
            self.journal.begin()
            self.journal.write_facts(facts)
            save_paths(self.journal, layout, paths)
            self.journal.move_to(State.APPLYING)
        except (OSError, PatchError) as error:
            if self.journal.under_way:
                self.journal.end()
            else:
                self.journal.clear_leftovers()
            raise NoRoom(f"nothing was saved: {error}") from error

    def keep(self) -> None:
        """The transaction is done: once all of it is on the disk, what was saved is let go."""
        if self.active:
            self.journal.flush()
            self.journal.end()
            self.let_go()

    def let_go(self) -> None:
        """Leave the journal as it is, for whoever puts it back."""
        self.active = False
        self._lock.close()
