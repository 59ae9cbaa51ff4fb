"""Whether a set of imported packages holds every library its programs load.

The solver chose the set by upstream's relations, which know nothing of ELF dependencies. These are read from the files
themselves, so this check would find a library that upstream forgot to require, or that a fact dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bedplate.model.errors import Finding, Level
from bedplate.packages.importer import ImportedPackage

_ELF_MARKS = ("(64bit)", "()", "rtld(GNU_HASH)")


def is_elf_dependency(text: str) -> bool:
    """Whether an RPM dependency string names a library, a version of one, or the loader."""
    return not text.startswith("(") and " " not in text and (text.endswith(_ELF_MARKS) or ".so" in text)


def unmet_libraries(imported: Sequence[ImportedPackage], further: Iterable[str] = ()) -> tuple[Finding, ...]:
    """An error finding for each ELF dependency that nothing in the set provides.

    Args:
        imported: The whole closure.
        further: What else is provided, by packages of our own for instance.
    """
    offered = {text for one in imported for text in one.provides}
    offered.update(further)
    return tuple(
        Finding(
            id="import.closure.unmet",
            level=Level.ERROR,
            cause=f"nothing in the set provides {text}",
            where=one.nevra.name,
            remedy="add the package that holds it to the track, or correct the facts that dropped it",
        )
        for one in imported
        for text in one.requires
        if is_elf_dependency(text) and text not in offered
    )
