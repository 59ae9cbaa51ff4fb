"""An inspected image, its findings and a comparison as tables for people."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bedplate.cli.console import human_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from bedplate.model.errors import Finding
    from bedplate.verify.differences import RebuildReport
    from bedplate.verify.inspection import Inspection, ProgramFact, RootFact

_WIDEST = 120
_NARROWEST = 60
_OWNERS = 20
_DIFFERENCES = 40
_LEVELS = {"error": "red", "warning": "yellow", "unknown": "magenta", "info": "dim"}


def inspection_text(image: Inspection, *, color: bool, all_packages: bool = False) -> str:
    """What an image is, in compact tables."""
    parts: list[Table] = [_facts(image)]
    if image.partitions:
        parts.append(_partitions(image))
    if image.uki is not None:
        parts.append(_sections(image))
    programs = [*image.loaders, *([image.uki.program] if image.uki is not None else [])]
    if programs:
        parts.append(_programs(programs))
    if image.root is not None:
        parts += _contents(image.root)
        if all_packages:
            rows = [(p.name, p.evr, p.arch, p.source) for p in image.root.packages]
            parts.append(facts_table("packages", ("name", "evr", "arch", "source"), rows))
    return render_tables(parts, color)


def findings_text(findings: Sequence[Finding], *, color: bool) -> str:
    """Findings, errors first, with what to do; a closing line says the verdict."""
    table = facts_table("", ("", ""), (), header=False)
    for finding in findings:
        level = f"[{_LEVELS[finding.level.value]}]{finding.level.value}[/]"
        lines = [f"[bold]{finding.id}[/]  {_plain(finding.where)}", _plain(finding.cause)]
        if finding.remedy:
            lines.append(f"[dim]{_plain(finding.remedy)}[/]")
        table.add_row(level, "\n".join(lines))
    errors = sum(finding.level.value == "error" for finding in findings)
    verdict = f"{errors} errors: do not use this image" if errors else "no errors"
    return (render_tables([table], color) + "\n\n" if findings else "") + verdict


def rebuild_text(report: RebuildReport, *, color: bool) -> str:
    """What is the same and what is not, path by path."""
    table = facts_table("", ("part", "", "sha256", "note"), ())
    for part in report.parts:
        word = "[green]same[/]" if part.same else "[red]DIFFERENT[/]"
        digests = part.first_sha256[:24] + ("" if part.same else f" / {part.second_sha256[:24]}")
        table.add_row(part.part, word, digests, _plain(part.note))
    lines = [render_tables([table], color)]
    for part in report.parts:
        if part.differences:
            lines.append(f"\n{part.part}: {part.count} differences, image / rebuilt")
            lines += [f"  {difference}" for difference in part.differences[:_DIFFERENCES]]
            if part.count > _DIFFERENCES:
                lines.append(f"  and {part.count - _DIFFERENCES} more (--json names them)")
    lines += ["", *report.remarks]
    words = "the same bytes twice" if report.same else "NOT the same bytes"
    return "\n".join([*lines, f"{words}, in {report.seconds:.1f} s"])


def _facts(image: Inspection) -> Table:
    table = facts_table("", ("", ""), (), header=False)
    release = image.os_release
    rows = [
        ("image", f"{image.image} ({image.kind}, {human_bytes(image.size)})"),
        ("track", f"{image.track or 'unknown'}, version {image.version or 'unknown'}"),
        ("os-release", f"{release.get('PRETTY_NAME', '')}, BUILD_ID {release.get('BUILD_ID', '-')}"),
    ]
    uki, verity, root = image.uki, image.verity, image.root
    if uki is not None:
        rows += [
            ("kernel", uki.kernel_version),
            ("command line", uki.command_line or "none"),
            ("root hash", (uki.root_hash or "NONE") + _root_hash_words(image)),
            ("PCR policy", _pcr_words(image)),
            *((f"PCR 11 {phase.phase or 'at start'}", phase.value) for phase in uki.pcr.phases),
        ]
    sizes = []
    if root is not None:
        sizes.append(f"root {human_bytes(root.bytes)} (unpacked {human_bytes(root.contents.plain_bytes)})")
    if verity is not None:
        sizes.append(f"verity {human_bytes(verity.bytes)}")
    if uki is not None:
        sizes.append(f"UKI {human_bytes(uki.program.size)}")
        sizes.append(f"kernel {human_bytes(uki.section_bytes('.linux'))}")
        sizes.append(f"initrd {human_bytes(uki.section_bytes('.initrd'))}")
    if sizes:
        rows.append(("sizes", ", ".join(sizes)))
    if root is not None:
        contents = root.contents
        owned = "unknown" if contents.unowned is None else str(len(contents.unowned))
        rows += [
            ("root", f"{contents.paths} paths, {contents.files} files, unowned: {owned}"),
            ("packages", root.packages_problem or str(len(root.packages))),
            ("set-id", "; ".join(f"{f.path} {f.mode} {f.uid}:{f.gid}" for f in contents.setid) or "none"),
            ("capabilities", "; ".join(f"{f.path} {f.capabilities}" for f in contents.capabilities) or "none"),
            ("world-writable", " ".join(contents.world_writable) or "none"),
            ("interpreters", "; ".join(f"{f.path} ({f.scripts} scripts)" for f in contents.interpreters) or "none"),
        ]
    for name, value in rows:
        table.add_row(name, _plain(value))
    return table


def _root_hash_words(image: Inspection) -> str:
    verity = image.verity
    if image.kind != "disk" or not image.root_hash:
        return ""
    uuids = {part.uuid.replace("-", "") for part in image.partitions}
    partitions = {image.root_hash[:32], image.root_hash[-32:]} <= uuids
    words = ["partition UUIDs " + ("match" if partitions else "DO NOT MATCH")]
    if verity is None:
        words.append("NO VERITY DATA")
    else:
        words.append("hash tree " + ("matches" if verity.stored_root_hash == image.root_hash else "DOES NOT MATCH"))
        words.append("data " + ("verified" if verity.root_hash == image.root_hash else "CHANGED"))
    return "\n" + ", ".join(words)


def _pcr_words(image: Inspection) -> str:
    pcr = image.uki.pcr if image.uki is not None else None
    if pcr is None or not pcr.present:
        return "NOT SIGNED"
    signed = sum(phase.signed for phase in pcr.phases)
    return pcr.problem or f"signed for {signed} of {len(pcr.phases)} phases, key {pcr.fingerprint[:16]}"


def _partitions(image: Inspection) -> Table:
    rows = [
        (
            part.label,
            part.type,
            part.uuid,
            human_bytes(part.start),
            human_bytes(part.size),
            "empty" if part.empty else human_bytes(part.used) if part.used is not None else "in use",
        )
        for part in image.partitions
    ]
    return facts_table("partitions", ("label", "type", "PARTUUID", "start", "size", "used"), rows, right=(3, 4, 5))


def _sections(image: Inspection) -> Table:
    sections = image.uki.sections if image.uki is not None else ()
    rows = [(section.name, human_bytes(section.size), section.sha256[:32]) for section in sections]
    return facts_table("UKI sections", ("name", "size", "sha256"), rows, right=(1,))


def _programs(programs: Iterable[ProgramFact]) -> Table:
    rows = []
    for program in programs:
        if not program.signatures:
            rows.append((program.path, human_bytes(program.size), "NOT SIGNED", ""))
        for signature in program.signatures:
            state = "valid" if signature.valid else signature.problem
            rows.append(
                (program.path, human_bytes(program.size), f"{state}, {signature.mark.upper()}", signature.subject)
            )
    return facts_table("signatures", ("program", "size", "signature", "signer"), rows, right=(1,))


def _contents(root: RootFact) -> list[Table]:
    contents = root.contents
    largest = [(entry.path, human_bytes(entry.size), human_bytes(entry.stored)) for entry in contents.largest]
    tables = [facts_table("largest paths", ("path", "size", "on disk"), largest, right=(1, 2))]
    if contents.owners is not None:
        rows = [
            (row.owner, str(row.paths), human_bytes(row.size), human_bytes(row.stored))
            for row in contents.owners[:_OWNERS]
        ]
        tables.append(facts_table("largest owners", ("owner", "paths", "size", "on disk"), rows, right=(1, 2, 3)))
    return tables


def facts_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[int] = (),
    header: bool = True,
) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if header else None,
        show_header=header,
        padding=(0, 1),
        pad_edge=False,
        show_edge=False,
    )
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    return table


def _plain(text: str) -> str:
    """Text of an image is not markup, and does not move the cursor."""
    from rich.markup import escape

    return escape("".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text))


def render_tables(parts: Sequence[Table], color: bool) -> str:
    from rich.console import Console

    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=color, no_color=not color, highlight=False)
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
