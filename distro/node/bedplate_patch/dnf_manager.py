"""The package manager of the system: dnf's own library, with its configuration, keys, plug-ins and history."""

from __future__ import annotations

import os
from collections.abc import Iterable

import dnf
import dnf.callback
import dnf.db.group
import dnf.exceptions
import dnf.package
import dnf.rpm
import hawkey
import libdnf.transaction
import rpm

from bedplate_patch.errors import NotStarted, PatchError
from bedplate_patch.transaction import Change, Plan, Request


class _LocalKeys(dnf.callback.KeyImport):  # type: ignore[misc]
    """Keys that lie on this disk are trusted by whoever put them there; nobody is here to ask about others."""

    def _confirm(self, id: str, userid: str, fingerprint: str, url: str, timestamp: int) -> bool:
        return _on_this_disk(url)


def _on_this_disk(url: str) -> bool:
    return url.startswith(("file:///", "/"))


class DnfManager:
    """dnf 4's API."""

    def __init__(self) -> None:
        os.environ["BEDPLATE_PATCH"] = "1"
        self._base = dnf.Base()

    def plan(self, request: Request) -> Plan:
        base = self._base
        try:
            base.conf.read()
            base.conf.substitutions.update_from_etc(base.conf.installroot, varsdir=base.conf.varsdir)
            base.conf.substitutions["releasever"] = dnf.rpm.detect_releasever(base.conf.installroot)
            base.conf.excludepkgs = [*base.conf.excludepkgs, *request.exclude]
            base.conf.assumeyes = True
            # Ours: others expect a command line.
            base.init_plugins(("*",), ("bedplate*",))
            base.pre_configure_plugins()
            base.read_all_repos()
            for repository in base.repos.iter_enabled():
                # What is decided on must be what the repository says now.
                repository._repo.expire()
                # A repository that cannot be read or verified must not pass for one without updates.
                repository.skip_if_unavailable = False
                repository._set_key_import(_LocalKeys())
                repository.load_metadata_other = False
            base.configure_plugins()
            base.fill_sack()
            if request.scope == "security":
                base.add_security_filters("gte", types=["security"])
            if request.only:
                for name in request.only:
                    base.upgrade(name)
            else:
                base.upgrade_all()
            base.resolve()
        except (dnf.exceptions.Error, OSError, RuntimeError) as error:
            raise NotStarted(
                f"the packages cannot be resolved: {_text(error)}", remedy="try: dnf check-update"
            ) from error
        return self._describe()

    def _describe(self) -> Plan:
        transaction = self._base.transaction
        coming, going = list(transaction.install_set), list(transaction.remove_set)
        return Plan(
            changes_of(transaction),
            sum(one.downloadsize for one in coming),
            sum(one.installsize for one in coming),
            frozenset(path for one in going for path in one.files),
        )

    def fetch(self) -> frozenset[str]:
        base = self._base
        packages = list(base.transaction.install_set)
        try:
            base.download_packages(packages)
            for package in packages:
                result, message = base.package_signature_check(package)
                if result == 1 and all(_on_this_disk(url) for url in package.repo.gpgkey):
                    base.package_import_key(package, fullaskcb=lambda **_: True)
                    result, message = base.package_signature_check(package)
                if result != 0:
                    raise NotStarted(f"{package}: {message}", remedy="do not trust this repository; tell who runs it")
        except (dnf.exceptions.Error, ValueError) as error:
            raise NotStarted(f"the packages cannot be had: {_text(error)}") from error
        return files_of(packages)

    def commit(self) -> None:
        try:
            self._base.do_transaction()
        except (dnf.exceptions.Error, rpm.error, OSError, RuntimeError, ValueError) as error:
            raise PatchError(f"the transaction failed: {_text(error)}") from error
        failed = failed_in(self._base.transaction)
        if failed:
            raise PatchError(f"these packages failed: {', '.join(failed)}")

    def close(self) -> None:
        self._base.close()


def files_of(packages: Iterable[dnf.package.Package]) -> frozenset[str]:
    """Absolute paths of all files of packages that were downloaded, from their own headers: dnf does not load the
    repositories' lists of files, and knows only of those below /etc and of programs without them."""
    return frozenset(path for package in packages for path in package._header[rpm.RPMTAG_FILENAMES])


def changes_of(transaction: dnf.db.group.RPMTransaction) -> tuple[Change, ...]:
    """The packages of a transaction: those that come, and those that go without a successor."""
    old = {(one.name, one.arch): one for one in transaction.remove_set}
    changes, upgraded = [], set()
    for package in sorted(transaction.install_set, key=str):
        before = old.get((package.name, package.arch))
        action = "install"
        if before is not None:
            upgraded.add((package.name, package.arch))
            action = "upgrade" if package.evr_gt(before) else "downgrade" if package.evr_lt(before) else "reinstall"
        advisories = tuple(sorted({one.id for one in package.get_advisories(hawkey.EQ)}))
        previous = before.evr if before is not None else ""
        changes.append(Change(package.name, package.arch, action, previous, package.evr, advisories))
    changes += [
        Change(one.name, one.arch, "remove", one.evr) for key, one in sorted(old.items()) if key not in upgraded
    ]
    return tuple(changes)


def failed_in(transaction: dnf.db.group.RPMTransaction) -> list[str]:
    """Packages of a transaction that was run which rpm could not change: dnf's library says so nowhere else."""
    return sorted({str(one.pkg) for one in transaction if one.state == libdnf.transaction.TransactionItemState_ERROR})


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())
