"""File capabilities: from the text form of cap_to_text(3) to the ``security.capability`` attribute (revision 2).

Source: capabilities(7), ``struct vfs_cap_data`` of linux/capability.h.
"""

from __future__ import annotations

import re
import struct

from bedplate.model.errors import BadInput

XATTR = "security.capability"
_REVISION_2 = 0x02000000
_EFFECTIVE = 0x000001
_NAMES = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
]

_CLAUSE = re.compile(r"(?P<names>[a-z_,]*)(?P<ops>(?:[=+-][eip]*)+)")


def encode(text: str) -> bytes:
    """The attribute's 20 bytes for ``text`` such as ``cap_net_raw=ep``.

    Raises:
        BadInput: a clause or a name that is not known.
    """
    sets = {"p": 0, "i": 0, "e": 0}
    for clause in text.split():
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise BadInput(f"not a capability clause: {clause!r}", where=text)
        mask = _mask(match["names"], text)
        for operator, flags in re.findall(r"([=+-])([eip]*)", match["ops"]):
            for flag, held in sets.items():
                kept = held & ~mask if operator == "=" else held
                sets[flag] = kept if flag not in flags else kept & ~mask if operator == "-" else kept | mask
    magic = _REVISION_2 | (_EFFECTIVE if sets["e"] else 0)
    low, high = 0xFFFFFFFF, 32
    return struct.pack("<5I", magic, sets["p"] & low, sets["i"] & low, sets["p"] >> high, sets["i"] >> high)


def _mask(names: str, text: str) -> int:
    if names in ("", "all"):
        return (1 << len(_NAMES)) - 1
    mask = 0
    for name in names.split(","):
        try:
            mask |= 1 << _NAMES.index(name.removeprefix("cap_"))
        except ValueError as error:
            raise BadInput(f"unknown capability {name!r}", where=text) from error
    return mask
