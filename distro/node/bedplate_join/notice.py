"""What people see before and after they log in while a join is not done: the console's greeting and the message of the
day. Both lie below /run and are gone when all is well."""

from __future__ import annotations

from pathlib import Path

from bedplate_join.state import State, Step, write

PLACES = ("run/issue.d/50-bedplate-join.issue", "run/motd.d/50-bedplate-join")


def show(root: Path, state: State) -> None:
    """Say what is not done; nothing when it is, or when nothing was asked for."""
    text = lines(state)
    for place in PLACES:
        path = root / place
        if not text:
            path.unlink(missing_ok=True)
            continue
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # agetty reads backslashes as commands of its own.
        write(path, "\n".join(line.replace("\\", "/") for line in text))


def lines(state: State) -> list[str]:
    """The state in words."""
    if state.step is Step.WAITING:
        return [f"Not yet a member of {state.domain}: {state.message}.", f"  {state.remedy or 'it is tried again'}"]
    if state.step is Step.FAILED:
        return [f"Not a member of {state.domain}: {state.message}.", f"  what to do: {state.remedy}"]
    return []
