"""The image that is there already: told from digests of all inputs, without opening a package or starting a program.

Kept apart from the build so that a run in which nothing has changed loads little and ends at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bedplate.compose.inputs import code_digest
from bedplate.compose.owned import OwnedSet
from bedplate.compose.result import BuildResult, read_result, untouched
from bedplate.flows.locks import usable_locks
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.definition.track import Track
from bedplate.model.digest import identity
from bedplate.model.lock import Lock, format_lock
from bedplate.trust.keys import KeyStore
from bedplate.trust.roles import Kind

KEY_NAME = "inputs.sha256"


@dataclass(frozen=True)
class BuildOutcome:
    """A finished image: its directory and record.

    ``seconds`` are of each step of this run (those of the flow and those of the compose engine), ``reused`` says that
    nothing had changed since the image was built, ``relocked`` that the committed lock could not be had any more,
    ``development`` that development keys signed it.
    """

    directory: Path
    build: BuildResult
    seconds: dict[str, float]
    reused: bool
    relocked: bool
    development: bool


def outcome(
    output: Path, result: BuildResult, keys: KeyStore, relocked: bool, seconds: dict[str, float]
) -> BuildOutcome:
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    development = any(keys.ensure(role).kind is Kind.DEVELOPMENT for role in ("boot", "pcr"))
    return BuildOutcome(output, result, rounded, result.reused, relocked, development)


@dataclass(frozen=True)
class Question:
    """All that decides whether an image can be used as it is. ``lock`` is given when it is not the definition's."""

    workspace: Workspace
    definition: DefinitionSet
    track: Track
    sets: Sequence[OwnedSet]
    keys: KeyStore
    lock: Lock | None
    version: str = ""

    @property
    def image_version(self) -> str:
        """The version of the image: the one asked for, else the distribution's."""
        return self.version or self.definition.distro.version

    @property
    def output(self) -> Path:
        """Where the image is or will be."""
        return self.workspace.output / self.track.id

    def key(self, lock: Lock) -> str:
        """Digest of every input of an image made from ``lock``."""
        definition = self.definition
        parts = [
            format_lock(lock),
            definition.distro.model_dump(mode="json"),
            self.track.model_dump(mode="json"),
            definition.ids.model_dump(mode="json"),
            [fact.model_dump(mode="json") for _, fact in sorted(definition.facts.items())],
            [package.model_dump(mode="json") for _, package in sorted(definition.own.items())],
            [owned.digest for owned in self.sets],
            self.keys.public_digests(),
            definition.tool_set("tools").model_dump(mode="json"),
            code_digest(),
            self.image_version,
        ]
        return identity(parts)

    def finished(self) -> tuple[BuildResult, bool] | None:
        """The image that is there and whether it was made from another lock than the committed one; None when
        something has changed."""
        result = read_result(self.output)
        recorded = self.output / KEY_NAME
        if result is None or not recorded.is_file() or not untouched(result):
            return None
        text = recorded.read_text()
        if self.lock is not None:
            return (result, False) if text == self.key(self.lock) else None
        fitting = partial(self.definition.resolution_digest, self.track)
        locks = usable_locks(self.workspace, self.track.id, track=self.track.id, definition=fitting)
        for number, (_, usable) in enumerate(locks):
            if text == self.key(usable):
                return result, number > 0
        return None
