"""Kernel packages on their way into the repository: made for what is imported, by the tracks it is a kernel of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bedplate.compose.kernels import flavour_of
from bedplate.flows.imports import import_locked
from bedplate.flows.kernels import kernel_packages, tracks_with_kernels
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock
from bedplate.flows.make import image_inputs, opened_packages
from bedplate.flows.owned import owned_sets
from bedplate.flows.tools import prepare_tools
from bedplate.flows.track import locked_track
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.package import Nevra
from bedplate.packages.rpm.reader import RpmPackage


def kernels_among(
    workspace: Workspace, definition: DefinitionSet, finished: Sequence[tuple[Nevra, Path]], relock: Relock
) -> list[RpmPackage]:
    """For every kernel among the ``finished`` packages the one with its signed image, for each track that takes it. The
    rest of an image (initrd, stub) comes from the track's lock.

    Raises:
        MovedOnError: a track's lock names what the mirrors no longer carry, see :func:`locked_track`.
    """
    tracks = tracks_with_kernels(definition.tracks.values(), [nevra.name for nevra, _ in finished])
    made = []
    for track in tracks:
        kernels = [
            RpmPackage.open(path) for nevra, path in finished if flavour_of(track.kernel, nevra.name) is not None
        ]
        lock = locked_track(workspace, definition, track.id, relock).lock
        packages = opened_packages(workspace, definition, lock, import_locked(workspace, definition, lock))
        keys, toolbox = key_store(workspace, definition), prepare_tools(workspace, "tools", relock)
        sets = owned_sets(workspace, track)
        inputs = image_inputs(definition, track, sets, packages, keys, toolbox, definition.distro.version)
        made += kernel_packages(workspace, inputs, keys, kernels)
    return made
