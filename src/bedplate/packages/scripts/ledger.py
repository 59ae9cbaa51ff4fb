"""The ledger: every script of every package, accounted for by known kinds or by a person's verdict, or not.

Scripts, facts and ids in, accounts and findings out; only the optional store touches the disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from bedplate.model.definition.facts import Ids, PackageFacts, Verdict
from bedplate.model.errors import BadInput, Finding, Level
from bedplate.model.package import Script
from bedplate.packages.scripts.claims import REPLACED_BY, Need, NeedKind
from bedplate.packages.scripts.classify import Classification, Gap, Piece, classify, joined_gaps, script_digest
from bedplate.packages.scripts.kinds import canonical
from bedplate.packages.scripts.store import ClassificationStore

SHOWN_LINES = 40  # of one script in one message
SHOWN_COLUMNS = 160


class Status(StrEnum):
    """How a script stands. ``CHANGED``: it has a verdict, but for another text."""

    COVERED = "covered"
    VERDICT = "verdict"
    CHANGED = "changed"
    UNACCOUNTED = "unaccounted"


@dataclass(frozen=True, slots=True)
class PackageScripts:
    """The scripts of one package. For a deb, its ``triggers`` file is a script of kind "triggers"."""

    package: str
    scripts: tuple[Script, ...]


@dataclass(frozen=True, slots=True)
class ScriptAccount:
    """One script: its lines of known kind, the lines of none, and the verdict that stands for those."""

    package: str
    script: str
    sha256: str
    status: Status
    pieces: tuple[Piece, ...]
    uncovered: tuple[Gap, ...]
    verdict: Verdict | None
    text: str

    @property
    def accounted(self) -> bool:
        """Whether a build may go on with it."""
        return self.status in (Status.COVERED, Status.VERDICT)

    def uncovered_lines(self) -> tuple[str, ...]:
        """The lines not covered, as they stand in the script, each with its number."""
        lines = self.text.split("\n")
        wanted = sorted({number for gap in self.uncovered for number in range(gap.first, gap.last + 1)})
        shown = [
            f"{number:5d} | {lines[number - 1].rstrip()[:SHOWN_COLUMNS]}" for number in wanted if number <= len(lines)
        ]
        return (*shown[:SHOWN_LINES], *([f"… and {len(shown) - SHOWN_LINES} more"] if len(shown) > SHOWN_LINES else []))


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One script as a row to show; plain values only."""

    package: str
    script: str
    status: str
    sha256: str
    kinds: tuple[str, ...]
    replaced_by: tuple[str, ...]
    uncovered: tuple[str, ...]
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """All accounts, sorted by package and script, and what there is to say about them."""

    accounts: tuple[ScriptAccount, ...]
    findings: tuple[Finding, ...]

    @property
    def unaccounted(self) -> tuple[ScriptAccount, ...]:
        """Scripts that stop a build."""
        return tuple(account for account in self.accounts if not account.accounted)

    def rows(self) -> tuple[LedgerRow, ...]:
        """One row for each script, for a table or JSON (``dataclasses.asdict``)."""
        return tuple(_row(account) for account in self.accounts)

    def require(self) -> None:
        """Stop a build that has an unaccounted script.

        Raises:
            BadInput: it names each such script, prints its lines that are not covered, and says what to write where.
        """
        errors = [finding for finding in self.findings if finding.level is Level.ERROR]
        if not errors:
            return
        details = [line for finding in errors for line in (f"{finding.where}: {finding.cause}").split("\n")]
        raise BadInput(
            f"{len(errors)} package script{'s are' if len(errors) > 1 else ' is'} not accounted for",
            where="script ledger",
            details=details,
            remedy="read each script, then say in distro/packages/*.toml what replaces it or why nothing is needed:\n"
            + "\n".join(finding.remedy for finding in errors),
        )


def from_deb(package: str, scripts: Iterable[Script], control_files: Mapping[str, bytes]) -> PackageScripts:
    """The scripts of a deb with its ``triggers`` file among them."""
    found = tuple(scripts)
    if control_files.get("triggers"):
        found += (Script("triggers", "", control_files["triggers"].decode("utf-8", "surrogateescape")),)
    return PackageScripts(package, found)


def account(
    packages: Iterable[PackageScripts],
    facts: Mapping[str, PackageFacts],
    ids: Ids | None = None,
    owned: Collection[str] = (),
    store: ClassificationStore | None = None,
) -> Ledger:
    """Account for every script of ``packages``.

    Args:
        facts: Facts by package name: verdicts, modes, and the alternatives (of any package: a link has one owner).
        ids: The frozen user and group ids.
        owned: Canonical paths of files, links and directories that the distribution owns, of whatever set; their
            owners and modes are declared with them.
        store: Where classifications are kept between runs; without one, every script is read.
    """
    definition = _Definition(facts, ids, frozenset(owned))
    accounts: list[ScriptAccount] = []
    findings: list[Finding] = []
    for package in sorted(packages, key=lambda package: package.package):
        kinds = [script.kind for script in package.scripts]
        triggered = any(script.kind == "triggers" and "interest" in script.text for script in package.scripts)
        known = facts.get(package.package)
        for script in sorted(package.scripts, key=lambda script: script.kind):
            read = store.classify if store else classify
            entry = _account_one(package.package, script, read(script, triggered=triggered), definition)
            accounts.append(entry)
            findings += _findings(entry)
        for verdict in known.scripts if known else ():
            if verdict.script not in kinds:
                findings.append(_unused(package.package, verdict))
    if store:
        store.save()
    return Ledger(tuple(accounts), tuple(findings))


def _account_one(
    package: str, script: Script, classification: Classification, definition: _Definition
) -> ScriptAccount:
    digest = script_digest(script)
    gaps = list(classification.gaps)
    for piece in classification.pieces:
        missing = [str(need) for need in piece.needs if not definition.holds(package, need)]
        if missing:
            gaps.append(Gap(piece.first, piece.last, f"not in the definition: {', '.join(missing)}"))
    gaps = list(joined_gaps(gaps))
    facts = definition.facts.get(package)
    verdicts = [verdict for verdict in (facts.scripts if facts else ()) if verdict.script == script.kind]
    valid = next((verdict for verdict in verdicts if verdict.sha256 == digest), None)
    if not gaps:
        status = Status.COVERED
    elif valid:
        status = Status.VERDICT
    else:
        status = Status.CHANGED if verdicts else Status.UNACCOUNTED
    return ScriptAccount(package, script.kind, digest, status, classification.pieces, tuple(gaps), valid, script.text)


class _Definition:
    """What the definition holds, ready to be asked."""

    def __init__(self, facts: Mapping[str, PackageFacts], ids: Ids | None, owned: frozenset[str]) -> None:
        self.facts = facts
        self._owned = owned
        self._users = dict(ids.users) if ids else {}
        own_groups = {name for name, user in self._users.items() if not user.group}
        self._groups = (set(ids.groups) if ids else set()) | own_groups
        self._members = {(group, user) for group, users in (ids.members if ids else {}).items() for user in users}
        self._alternatives = {
            (canonical(alternative.link), canonical(alternative.target))
            for package in facts.values()
            for alternative in package.alternatives
        }
        self._links = {link for link, _ in self._alternatives}
        self._brought = {name for package in facts.values() for name in (*package.users, *package.groups)}

    def holds(self, package: str, need: Need) -> bool:
        """Whether the definition gives what ``package``'s script would have made.

        An alternative is settled when its link is declared at all: which target wins is the distribution's choice.
        """
        match need.kind:
            case NeedKind.ALTERNATIVE:
                return need.key[0] in self._links
            case NeedKind.USER:
                return need.key[0] in self._users and self._exists_with(package, need.key[0])
            case NeedKind.GROUP:
                return need.key[0] in self._groups and self._exists_with(package, need.key[0])
            case NeedKind.MEMBER:
                group, user = need.key
                return (group, user) in self._members or (user in self._users and self._users[user].group == group)
            case NeedKind.OWNED:
                return need.key[0] in self._owned or need.key[0] in self._added(package)
            case NeedKind.MODE:
                # The distribution's own files and those the facts add have their modes beside them.
                known = self.facts.get(package)
                modes = {canonical(path) for path in known.modes} if known else set()
                return need.key[0] in modes or need.key[0] in self._owned or need.key[0] in self._added(package)
            case NeedKind.LINK:
                known = self.facts.get(package)
                return known is not None and any(fnmatchcase(path, need.key[0]) for path in known.links)
            case NeedKind.CAPABILITY:
                known = self.facts.get(package)
                return known is not None and any(
                    mode.capabilities for path, mode in known.modes.items() if canonical(path) == need.key[0]
                )

    def _exists_with(self, package: str, account: str) -> bool:
        """Whether the account is everyone's, or one that the package itself brings."""
        known = self.facts.get(package)
        mine = {*known.users, *known.groups} if known else set()
        return account not in self._brought or account in mine

    def _added(self, package: str) -> set[str]:
        """Canonical paths that the facts add to the package."""
        known = self.facts.get(package)
        if known is None:
            return set()
        # "d /path …" of a tmpfiles.d line makes the path at boot and at installation.
        lines = (line.split() for line in known.tmpfiles)
        made = {fields[1] for fields in lines if len(fields) > 1}
        return {canonical(path) for path in (*known.directories, *known.links, *known.files, *made)}


def _row(entry: ScriptAccount) -> LedgerRow:
    kinds = sorted({piece.kind for piece in entry.pieces})
    return LedgerRow(
        package=entry.package,
        script=entry.script,
        status=entry.status,
        sha256=entry.sha256,
        kinds=tuple(kinds),
        replaced_by=tuple(REPLACED_BY[kind] for kind in kinds),
        uncovered=tuple(f"{_range(gap)}: {gap.reason}" for gap in entry.uncovered),
        verdict=entry.verdict.verdict if entry.verdict else "",
        reason=entry.verdict.reason if entry.verdict else "",
    )


def _range(gap: Gap) -> str:
    return f"line {gap.first}" if gap.first == gap.last else f"lines {gap.first}-{gap.last}"


def _findings(entry: ScriptAccount) -> list[Finding]:
    where = f"{entry.package} {entry.script}"
    if entry.accounted:
        if entry.status is Status.COVERED and entry.verdict:
            return [
                Finding(
                    "script.verdict-unneeded", Level.INFO, "known kinds cover all of it", where, "remove its verdict"
                )
            ]
        return []
    reasons = [f"{_range(gap)}: {gap.reason}" for gap in entry.uncovered[:SHOWN_LINES]]
    head = "these lines are of no known kind"
    if entry.status is Status.CHANGED:
        head = "the script changed since it was reviewed, and these lines are of no known kind"
    cause = "\n".join((head, *reasons, *entry.uncovered_lines()))
    identity = "script.changed" if entry.status is Status.CHANGED else "script.unaccounted"
    return [Finding(identity, Level.ERROR, cause, where, _snippet(entry))]


def _snippet(entry: ScriptAccount) -> str:
    """TOML to paste: a reason must be written before it is valid."""
    return (
        f"[[package]]\nname = {_quote(entry.package)}\n\n[[package.scripts]]\nscript = {_quote(entry.script)}\n"
        f'sha256 = "{entry.sha256}"\nverdict = "replaced"  # or "not-needed"\nreason = ""\n'
    )


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unused(package: str, verdict: Verdict) -> Finding:
    return Finding(
        "script.verdict-unused",
        Level.WARNING,
        "a verdict for a script that the package does not have",
        f"{package} {verdict.script}",
        "remove it from distro/packages",
    )
