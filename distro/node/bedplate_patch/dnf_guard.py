"""The guard as dnf's plug-in calls it: before a transaction, after it, and when dnf ends before that."""

from __future__ import annotations

import atexit
import logging
import sys

import dnf
import dnf.exceptions

from bedplate_patch.cli import STORE
from bedplate_patch.dnf_manager import changes_of, failed_in, files_of
from bedplate_patch.door import run
from bedplate_patch.errors import Exit, PatchError
from bedplate_patch.guard import Guard, NoRoom
from bedplate_patch.journal import Journal
from bedplate_patch.saved import ROOT_LAYOUT

_log = logging.getLogger("dnf")


class DnfGuard:
    """The guard of one dnf process."""

    def __init__(self, base: dnf.Base) -> None:
        self.base = base
        self.guard = Guard(Journal(STORE), ROOT_LAYOUT)

    def before(self) -> None:
        """Save what the transaction may change.

        Raises:
            dnf.exceptions.Error: another one is under way.
        """
        transaction = self.base.transaction
        if not transaction:
            return
        coming = list(transaction.install_set)
        old = {path for package in transaction.remove_set for path in package.files}
        atexit.register(self.at_exit)
        try:
            self.guard.begin(
                changes_of(transaction), old, files_of(coming), sum(package.installsize for package in coming)
            )
        except NoRoom as error:
            _log.warning("This transaction has no way back if it fails or power is lost: %s", error.message)
        except PatchError as error:
            raise dnf.exceptions.Error(f"{error.message}; {error.remedy}") from error

    def after(self) -> None:
        """rpm has come to its end: what all succeeded is kept."""
        if self.guard.active and not failed_in(self.base.transaction):
            self.guard.keep()

    def at_exit(self) -> None:
        """Whatever was not kept is put back."""
        if not self.guard.active:
            return
        self.base.close()
        self.guard.let_go()
        done = run([sys.executable, "-sP", "/usr/sbin/bedplate-patch", "recover"], seconds=900)
        print(done.text.rstrip(), file=sys.stderr)
        if done.code != Exit.ROLLED_BACK:
            print(
                "dnf: not everything could be put back; restart the machine, or see: bedplate-patch status",
                file=sys.stderr,
            )
