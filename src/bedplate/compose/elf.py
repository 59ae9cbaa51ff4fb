"""Which shared libraries an ELF file asks for. Source: System V gABI, "Dynamic Section"."""

from __future__ import annotations

import io

from bedplate.model.errors import BadInput


def needed_libraries(data: bytes, where: str) -> list[str]:
    """DT_NEEDED names of an ELF file; empty for a static one.

    Raises:
        BadInput: not an ELF file.
    """
    # Imported here: the library is large, and most builds take the initrd from the cache.
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(data))
        section = elf.get_section_by_name(".dynamic")
        if not isinstance(section, DynamicSection):
            return []
        # pyelftools sets the attribute's name from the tag.
        return [str(tag.needed) for tag in section.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]  # type: ignore[attr-defined]
    except ELFError as error:
        raise BadInput(f"not an ELF program ({error})", where=where) from error
