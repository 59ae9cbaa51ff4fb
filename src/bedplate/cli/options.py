"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bedplate.flows import locks

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output")]
Relock = Annotated[
    bool, typer.Option("--relock", help="Lock again where the mirrors no longer carry what a lock names, and say so")
]


def relock_policy(allowed: bool) -> locks.Relock:
    """The flows' policy for the value of ``--relock``."""
    from bedplate.flows.locks import Relock

    return Relock.WHEN_NEEDED if allowed else Relock.NEVER
